"""What each family of filters takes on one core and refuses, beside datatrove's filters where they are installed.

    python -m benchmarks.filters [--megabytes 20] [--peer-megabytes 1] [FILE…]

FILEs are plain text or `<doc>` files; without any, the demo's plays are repeated. datatrove's filters see the first
--peer-megabytes, on which both give their verdicts, kept or refused. Every hundredth document is an evaluation text.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.preprocess import texts
from preprocess.config import DecontaminateConfig, FilterConfig
from preprocess.evaluation import Ngrams, list_files, write_ngrams
from preprocess.filters import judge
from preprocess.filters.contamination import Contamination

Verdict = Callable[[str], bool]  # is a text kept?


def kept_by(section: dict[str, Any], contamination: Contamination | None = None) -> Verdict:
    config = FilterConfig.model_validate({"min_characters": 1, **section})
    return lambda text: judge(text, "text", config, contamination).refusal is None


def contamination(folder: Path, documents: list[str]) -> Contamination:
    path = folder / "evaluation.jsonl"
    path.write_text("".join(json.dumps([text]) + "\n" for text in documents[::100]))
    config = DecontaminateConfig(paths=[str(path)])
    write_ngrams(list_files(config), config.ngram, folder / "ngrams")
    return Contamination(config, Ngrams(folder / "ngrams"), list_files(config))


def peers() -> dict[str, Verdict]:
    """datatrove's filters with the same limits, by our names."""
    if find_spec("datatrove") is None:
        return {}
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter

    filters = {
        "c4": C4QualityFilter(min_num_sentences=3, min_words_per_line=5),
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
    }
    return {
        name: lambda text, peer=peer: peer.filter(Document(text=text, id="")) is True for name, peer in filters.items()
    }


def timed(verdict: Verdict, documents: list[str]) -> tuple[float, list[bool]]:
    """MB/s of this process's time, and the verdicts."""
    verdict(documents[0])  # tables and models are loaded once
    begin = time.process_time()
    verdicts = [verdict(text) for text in documents]
    seconds = time.process_time() - begin
    return sum(len(text.encode()) for text in documents) / 1e6 / seconds, verdicts


def first(documents: list[str], megabytes: float) -> list[str]:
    """The first documents that have so many bytes in all, at least one."""
    size, chosen = 0, documents[:1]
    for text in documents[1:]:
        size += len(text.encode())
        if size > megabytes * 1e6:
            break
        chosen.append(text)
    return chosen


def compare(documents: list[str], peer_megabytes: float, sides: dict[str, Verdict]) -> Table:
    few, others = first(documents, peer_megabytes), peers()
    table = Table("filter", "MB/s a core", "refused", "datatrove MB/s", "ours is faster", "same verdict")
    for name, verdict in sides.items():
        rate, verdicts = timed(verdict, documents)
        row = [name, f"{rate:.1f}", f"{verdicts.count(False)} of {len(verdicts)}"]
        if name in others:
            ours = timed(verdict, few)
            theirs = timed(others[name], few)
            same = sum(a == b for a, b in zip(ours[1], theirs[1], strict=True))
            row += [f"{theirs[0]:.2f}", f"{ours[0] / theirs[0]:.0f} ×", f"{same} of {len(few)}"]
        table.add_row(*row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--peer-megabytes", type=float, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts.write(folder, given.files, given.megabytes, folder / "raw")
        lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.open(encoding="utf-8"))
        documents = [text for text in (json.loads(line)["text"].strip() for line in lines) if text]
        sides = {"c4": kept_by({"c4": {}}), "gopher_quality": kept_by({"gopher_quality": {}})}
        sides["gopher_repetition"] = kept_by({"gopher_repetition": {}})
        sides["decontaminate"] = kept_by({}, contamination(folder, documents))
        if find_spec("py3langid"):
            sides = {"language": kept_by({"language": {"accept": ["en"]}}), **sides}
        Console().print(compare(documents, given.peer_megabytes, sides))


if __name__ == "__main__":
    main()
