"""What every task knows: the configuration, the units, and the folders where tasks leave what they made.

    WORK/plan.json
    WORK/evaluation.ngrams                     of the texts that must not be in the corpus
    WORK/errors/documents-00000.json           what a task has to say to the user
    WORK/cuts.json                             where shards begin
    WORK/shards/00000.json                     counts of a finished shard
    WORK/corpus/                               the corpus itself; renamed into place at the end

and one folder a stage (`preprocess.stages`), in which each unit of input has its files:

    documents/unit-00000.{parquet,jsonl,json}  cleaned documents, dead letters, counts
    documents/duplicates-00000.json            documents of the unit that an equal one elsewhere replaces
    near/unit-00000.{bands,rows,…}             band hashes, and whose they are
    near/part-00000.links                      documents that share one
    near/clusters-00000.json                   documents of the unit that are in clusters
    tokenizer/unit-00000.parquet               sentences for training the tokenizer
    tokenizer/tokenizer/                       the tokenizer, as it is exported
    tokenizer/vocabulary.json                  its size and special ids
    tokens/unit-00000.{tokens,sentences,json}  encoded documents, in the unit's order
    tokens/unit-00000.parquet                  where each lies in them
    tokens/bins-00000.parquet                  how many tokens fall to which part of the shards

Tasks talk through these files, so only keys and positions pass through Beam. Each file appears whole (written aside,
then renamed) and has the same bytes whoever writes it, so a task that runs twice does no harm.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import DigestError, InputError, RunError, UserError
from pipeline.files import read_json, write_bytes, write_json
from preprocess import origin
from preprocess.config import CorpusConfig
from preprocess.failures import explained
from preprocess.records import Unit
from preprocess.vocabulary import Vocabulary

_RESERVE = 65_536  # bytes


@dataclass(frozen=True)
class Plan:
    work: Path
    stages: Path  # where finished stages are kept
    config: CorpusConfig
    units: list[Unit]
    folders: dict[str, Path] = field(default_factory=dict)  # of the stages so far
    evaluation: list[Unit] = field(default_factory=list)  # the files of filter.decontaminate

    @property
    def inputs(self) -> list[Unit]:
        """All files that the corpus follows from."""
        return [*self.units, *self.evaluation]

    def with_folder(self, stage: str, folder: Path) -> "Plan":
        return replace(self, folders={**self.folders, stage: folder})

    def save(self) -> None:
        """Write the plan for the tasks of one pipeline to load."""
        values = {
            "origin": origin.origin(tuple(origin.versions(self.config))),
            "stages": str(self.stages),
            "config": json.loads(self.config.model_dump_json()),
            "units": [asdict(unit) for unit in self.units],
            "folders": {stage: str(folder) for stage, folder in self.folders.items()},
            "evaluation": [asdict(file) for file in self.evaluation],
        }
        write_json(self.work / "plan.json", values)
        write_bytes(self._reserve, bytes(_RESERVE))

    @classmethod
    def load(cls, work: str) -> "Plan":
        """The plan as a task sees it.

        Raises:
            WorkerError: this worker does not see the folder, or would write other bytes than the command's machine.
        """
        if not (Path(work) / "plan.json").exists():
            raise origin.WorkerError(
                f"does not see {work}: all workers need the folder of the output, under the same path"
            )
        values = read_json(Path(work) / "plan.json")
        origin.check(values["origin"])
        config = CorpusConfig.model_validate_json(json.dumps(values["config"]))
        folders = {stage: Path(folder) for stage, folder in values["folders"].items()}
        units, evaluation = ([Unit(**unit) for unit in values[key]] for key in ("units", "evaluation"))
        return cls(Path(work), Path(values["stages"]), config, units, folders, evaluation)

    @property
    def _reserve(self) -> Path:
        """A file that gives way to the report that the disk is full."""
        return self.work / "errors" / "reserve"

    @property
    def corpus(self) -> Path:
        return self.work / "corpus"

    @property
    def ngrams(self) -> Path:
        return self.work / "evaluation.ngrams"

    @property
    def tokenizer(self) -> Path:
        return self.folders["tokenizer"] / "tokenizer"

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(**read_json(self.folders["tokenizer"] / "vocabulary.json"))

    def file(self, stage: str, unit: int, suffix: str, name: str = "unit") -> Path:
        """A unit's file of a stage."""
        return self.folders[stage] / f"{name}-{unit:05d}.{suffix}"

    def tasks(self) -> list[int]:
        """The units' numbers, the largest first: dealt out in turn, or to whom is idle, all workers end together."""
        return [unit.number for unit in sorted(self.units, key=lambda unit: (unit.begin - unit.end, unit.number))]

    def results(self, stage: str) -> list[dict[str, Any]]:
        """The JSON result of every unit at a stage, in the units' order."""
        return [read_json(self.file(stage, unit.number, "json")) for unit in self.units]

    @contextmanager
    def reporting(self, stage: str, number: int) -> Iterator[None]:
        """Leave a user's error as a file: a runner would wrap it in a traceback, or repeat the task in vain."""
        try:
            with explained(self.folders.get(stage, self.work)):
                yield
        except UserError as error:
            self._report(f"{stage}-{number:05d}.json", error)

    def _report(self, name: str, error: UserError) -> None:
        self._reserve.unlink(missing_ok=True)
        try:
            write_json(self.work / "errors" / name, {"error": str(error), "exit_code": error.exit_code})
        except OSError:
            if not list((self.work / "errors").glob("*.json")):  # else another task has said it
                raise

    def raise_first_error(self) -> None:
        """Raise the error of the first task, by name, that left one."""
        for path in sorted((self.work / "errors").glob("*.json")):
            found = read_json(path)
            kinds = {kind.exit_code: kind for kind in (InputError, DigestError, RunError)}
            raise kinds[found["exit_code"]](str(found["error"]))


def total(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Key-wise sum of counters."""
    keys = sorted({key for count in counts for key in count})
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}
