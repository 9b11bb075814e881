"""The graphs of all pipelines keep to what every runner does right; DaskRunner 2.77 is the strictest."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from preprocess import kept, run, sink
from preprocess.graph import beam
from preprocess.options import pipeline_options
from preprocess.plan import Plan
from preprocess.records import Unit
from tests.preprocess.small import small_config


class _Nodes(PipelineVisitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.composites: list[AppliedPTransform] = []
        self.leaves: list[AppliedPTransform] = []

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        self.composites.append(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        self.leaves.append(node)


@pytest.fixture(params=["make_documents", "make_bands", "make_links", "make_tokenizer", "make_tokens", "make_shards"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Nodes:
    """The transforms of one pipeline that is built and not run."""
    built: list[beam.Pipeline] = []

    @contextmanager
    def building(*_: object) -> Iterator[beam.Pipeline]:
        built.append(beam.Pipeline("FnApiRunner"))
        yield built[-1]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a pipeline makes a folder there, which running it removes
    monkeypatch.setattr(run, "running", building)
    monkeypatch.setattr(sink, "cut_shards", lambda plan: None)
    monkeypatch.setattr(sink, "write_one_shard", lambda group, work: 0)
    monkeypatch.setattr(run, "file_sha256", lambda path: "0")
    monkeypatch.setattr(kept, "characters", lambda plan: 1)
    units = [Unit(n, "s", "text", "p", "n", 1, "", 0, 1) for n in range(3)]
    folders = {name: tmp_path / name for name in ("documents", "near", "tokenizer", "tokens")}
    config = small_config(tmp_path, tmp_path / "corpus", dedup={"near": {}})
    more = [2] if request.param == "make_links" else []
    getattr(run, request.param)(Plan(tmp_path, tmp_path, config, units, folders), pipeline_options([]), *more)
    found = _Nodes()
    (pipeline,) = built
    pipeline.visit(found)
    return found


def test_it_begins_with_one_create_and_has_one_leaf(nodes: _Nodes) -> None:
    """Reading transforms fail, and only the last branch is computed."""
    begins = [node for node in nodes.composites if any(isinstance(value, beam.pvalue.PBegin) for value in node.inputs)]
    assert [type(node.transform) for node in begins if node.full_label and "/" not in node.full_label] == [beam.Create]
    assert not any(isinstance(node.transform, beam.io.Read) for node in (*nodes.composites, *nodes.leaves))
    used = {value for node in nodes.leaves for value in node.inputs}
    ends = [value for node in nodes.leaves for value in node.outputs.values() if value not in used]
    assert len(ends) == 1


def test_groups_have_integers_as_keys(nodes: _Nodes) -> None:
    """Python's hash of text and bytes differs from process to process."""
    groups = [node for node in nodes.composites + nodes.leaves if isinstance(node.transform, beam.GroupByKey)]
    ours = [node for node in groups if not node.full_label.startswith("Create")]
    keys = [node.inputs[0].element_type.tuple_types[0] for node in ours]
    assert all(key is int for key in keys), keys


def test_no_tags_no_side_inputs_nothing_at_the_end_of_a_bundle(nodes: _Nodes) -> None:
    """Tagged outputs are merged, side inputs are made anew in each task, the output of finish_bundle is lost."""
    for node in nodes.leaves:
        assert set(node.outputs) == {None}, node.full_label
        assert not node.side_inputs, node.full_label
        if isinstance(node.transform, beam.ParDo):
            assert type(node.transform.fn).finish_bundle is beam.DoFn.finish_bundle, node.full_label
