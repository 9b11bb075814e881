"""Stages that remember: what a stage made is kept under the hash of all that it follows from, and found again.

    STAGES/documents-1f0c…/   STAGES/tokenizer-93b2…/   STAGES/tokens-77aa…/

A stage's key covers the inputs' digests, the settings that it and the stages before it read, the source code of
preprocessing and the versions of its libraries. Its folder appears when all its files are written, with a manifest of
their digests; it is used again only after every file has been compared with its own.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import DigestError, InputError
from pipeline.files import (
    MANIFEST,
    TEMPORARY,
    describe_files,
    digest_of,
    publish_folder,
    read_manifest,
    remove_unfinished,
    seal,
    verify_files,
    work_folder,
    write_json,
)
from preprocess import loaded
from preprocess.config import CorpusConfig
from preprocess.origin import code, versions
from preprocess.plan import Plan
from preprocess.records import Unit

KIND, FORMAT = "stage", 1
STAGES = ("documents", "near", "tokenizer", "tokens")
# the stage that is the first to read a setting; those that are not listed are read by the first of all
FIRST_READ = {
    "dedup": "near",
    "split": "tokenizer",
    "seed": "tokenizer",
    "tokenizer": "tokenizer",
    "sequence_lengths": "tokenizer",
    "packing": "shards",
    "shards": "shards",
}


def settings(config: CorpusConfig) -> dict[str, Any]:
    """The settings that a corpus's bytes follow from. Paths and limits are not among them."""
    values: dict[str, Any] = config.model_dump(
        mode="json",
        exclude={
            "output": True,
            "stages": True,
            "dead_letters": True,
            "filter": {"decontaminate": {"paths"}},
            "sources": {"__all__": {"paths", "path", "data_files", "range_bytes", "min_documents", "min_tokens"}},
        },
    )
    values["sources"].sort(key=lambda source: source["name"])
    if config.tokenizer.type == "loaded":
        values["tokenizer"] = {"type": "loaded", "sha256": loaded.digests(config.tokenizer.path)}
    return values


def key_of(stage: str, config: CorpusConfig, units: list[Unit]) -> str:
    """The SHA-256 of all that a stage follows from: not of where files lie, nor of their licences."""
    reached = STAGES[: STAGES.index(stage) + 1]
    read = {key: value for key, value in settings(config).items() if FIRST_READ.get(key, STAGES[0]) in reached}
    for source in read["sources"]:
        del source["license"], source["attribution"]
    inputs = [[unit.source, unit.name, unit.sha256, unit.begin, unit.end] for unit in units]
    return digest_of({"stage": stage, "settings": read, "inputs": inputs, "code": code(), "versions": versions(config)})


@contextmanager
def stages_folder(config: CorpusConfig, output: Path) -> Iterator[Path]:
    """Where the stages of a corpus are kept: what killed runs left unfinished in it is removed.

    Without a setting it is a folder beside the output, which is removed when the corpus is done; a run that ends
    otherwise leaves it for the next.
    """
    folder = config.stages or output.with_name(f"{output.name}.stages")
    for left in folder.glob(f"{TEMPORARY}*"):
        with suppress(InputError), work_folder(folder / left.name.removeprefix(TEMPORARY)):  # unless a live run has it
            pass
    try:
        yield folder.resolve()
    except BaseException:
        kept = [path.name for path in folder.glob("*")]
        if kept:
            print(f"{folder}: keeps {', '.join(sorted(kept))} for the next run", file=sys.stderr)
        elif folder.exists():
            folder.rmdir()
        raise
    if config.stages is None:
        shutil.rmtree(folder)


def stage(name: str, plan: Plan, make: Callable[[Plan], None]) -> Plan:
    """The plan with the folder of a finished stage, found or made.

    Args:
        make: writes the stage's files into `plan.folders[name]`; what it raises leaves nothing of them.
    """
    key = key_of(name, plan.config, plan.inputs)
    folder = plan.stages / f"{name}-{key[:16]}"
    if _found(folder, key):
        print(f"{name}: made by an earlier run, every file verified", file=sys.stderr)
        return plan.with_folder(name, folder)
    with work_folder(folder) as work:
        making = plan.with_folder(name, work / name)
        making.folders[name].mkdir()
        making.save()
        make(making)
        remove_unfinished(work / name)  # of workers that were killed while others did their tasks
        files = [path.relative_to(work / name).as_posix() for path in (work / name).rglob("*") if path.is_file()]
        described = describe_files(work / name, files)
        write_json(work / name / MANIFEST, seal({"kind": KIND, "format": FORMAT, "key": key, "files": described}))
        publish_folder(work / name, folder)
    return plan.with_folder(name, folder)


def _found(folder: Path, key: str) -> bool:
    """Whether a finished stage is there, whole; a damaged one is removed."""
    if not folder.exists():
        return False
    try:
        manifest = read_manifest(folder, KIND, FORMAT)
        verify_files(folder, manifest["files"])
        if manifest["key"] != key:
            raise DigestError(f"{folder}: a stage of other settings has this name")
    except (DigestError, InputError) as error:
        print(f"{error}; the stage is made again", file=sys.stderr)
        shutil.rmtree(folder)
        return False
    return True
