"""The text that all sides read: documents as JSON lines, in files of about the same size."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from launch import demo_text

FILES = 16


def documents(paths: list[Path]) -> Iterator[str]:
    """Texts of `<doc>` files, article by article, and of other files, whole."""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if text.startswith("<doc "):
            yield from (article.partition("\n")[2] for article in text.split("</doc>\n") if article.strip())
        else:
            yield text


def _repeated(raw: Path) -> Iterator[str]:
    """The demo's plays over and over, their paragraphs turned by one more in each round, so that none is the same."""
    demo_text.fetch(raw)
    plays = [path.read_text(encoding="utf-8").split("\n\n") for path in sorted(raw.rglob("*.md"))]
    for turn in count():
        for play in plays:
            at = turn % len(play)
            yield "\n\n".join(play[at:] + play[:at])


def write(folder: Path, paths: list[Path], megabytes: float, raw: Path) -> int:
    """Write at most so much text into FOLDER/*.jsonl; returns its bytes.

    Args:
        paths: files to take it from; without any, the demo's plays (fetched to `raw`), repeated.
    """
    limit, written = int(megabytes * 1e6), 0
    files = [(folder / f"part-{number:02d}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    for number, text in enumerate(documents(paths) if paths else _repeated(raw)):
        size = len(text.encode())
        if written + size > limit:
            break
        written += size
        smallest = min(files, key=lambda file: file.tell())
        smallest.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
    for file in files:
        file.close()
        if not Path(file.name).stat().st_size:
            Path(file.name).unlink()
    return written
