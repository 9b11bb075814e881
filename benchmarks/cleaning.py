"""Wikitext to prose, beside mwparserfromhell's `strip_code`: MB of wikitext a second on one core, and the markup left.

    python -m benchmarks.cleaning [DUMP …]        (the demo's excerpt of the English Wikipedia where none is given)

Both get the same pages, as text, and alternate; medians of the rounds, in seconds of the processor, since other
processes do not change those much. Ours is all of `preprocess.clean.clean`: repair of encodings and Unicode
normalisation too. A word is what stands between white space.
"""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import mwparserfromhell
from rich.console import Console
from rich.table import Table

from launch.demo_text import DUMP, fetch
from preprocess import sources
from preprocess.clean import clean
from preprocess.clean.errors import UncleanableError
from preprocess.config import WikipediaSource
from preprocess.records import Document

ROUNDS = 5
LEFTOVER = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|\|-|</?ref|<(?:br|div|span|small|sup|sub|table|gallery|math)\b|'''?|__[A-Z]{3,}__"
    r"|(?:thumb|thumbnail|mini|vignette|miniatur|缩略图|縮圖)\||\b(?:Category|File|Image|Kategorie|Datei|Fichier|Catégorie):",
    re.I,
)


def documents(paths: list[str]) -> list[Document]:
    units = sources.list_units([WikipediaSource(paths=paths)])
    return [item for unit in units for item in sources.read(unit) if isinstance(item, Document)]


def ours(document: Document) -> str:
    try:
        return clean(document.text, document.markup, wiki=document.wiki).text
    except UncleanableError:
        return ""


def peer(document: Document) -> str:
    return str(mwparserfromhell.parse(document.text).strip_code())


def timed(run: Callable[[Document], str], pages: list[Document]) -> tuple[float, list[str]]:
    begin = time.process_time()
    texts = [run(page) for page in pages]
    return time.process_time() - begin, texts


def leftovers(texts: list[str]) -> tuple[int, Counter[str]]:
    """The number of words, and how often each mark is among them."""
    words = sum(len(text.split()) for text in texts)
    return words, Counter(found.lower() for text in texts for found in LEFTOVER.findall(text))


def main(paths: list[str]) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pages = documents(paths)
    size = sum(len(page.text.encode()) for page in pages)
    sides = {"preprocess.clean": ours, "mwparserfromhell.strip_code": peer}
    rounds = [{name: timed(run, pages) for name, run in sides.items()} for _ in range(ROUNDS)]
    table = Table(f"{len(pages)} pages, {size / 1e6:.1f} MB", "MB/s", "words", "marks/10,000 words", "most")
    for name in sides:
        words, found = leftovers(rounds[0][name][1])
        speed = size / median(each[name][0] for each in rounds) / 1e6
        most = "  ".join(f"{mark} {number}" for mark, number in found.most_common(5))
        share = found.total() / max(words, 1) * 10_000
        table.add_row(name, f"{speed:.1f}", f"{words:,}", f"{share:.2f}", most)
    console = Console(highlight=False, markup=False)
    console.print(table)
    mine, theirs = ([each[name][0] for each in rounds] for name in sides)
    ratio = median(their / my for my, their in zip(mine, theirs, strict=True))
    console.print(f"ratio, median of {ROUNDS} pairs: {ratio:.1f} ×; asked: 5 MB/s and at most 1 mark a 10,000 words")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1:])
    else:
        fetch(Path("demo/raw"))
        main([f"demo/raw/wikipedia/{DUMP}"])
