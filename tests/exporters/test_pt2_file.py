"""`.pt2` files: the student's own operators, at any size, on whatever machine reads them."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.errors import UserError
from distill.exported.facts import FEATURES, ExportedFacts
from distill.exported.pt2_program import OPERATORS_FILE, read_pt2, read_pt2_facts
from distill.exported.session import open_session
from distill.exporters.feature_graph import FeatureGraph
from distill.exporters.instance_graph import InstanceGraph
from distill.exporters.onnx_file import write_onnx
from distill.exporters.pt2_file import write_pt2
from distill.scene.tile_size import TileSize
from distill.tasks.instances import FineTuningModule
from heads import RSPrompter
from students import RS4D, TimmStudent
from tests.heads.conftest import ColumnarStudent
from tests.operators import Operators

pytestmark = pytest.mark.xdist_group("pt2")  # written once

FACTS = ExportedFacts(
    kind=FEATURES,
    task="features",
    class_names=(),
    stride=8,
    mean=(0.5,) * 3,
    std=(0.2,) * 3,
    size=TileSize(64, 0),
    run="run",
    student="students.RS4D",
    head="",
    digest="",
    version="0",
)


@pytest.fixture(scope="module")
def graph() -> FeatureGraph:
    """Of one layer: what sizes that vary have to pass is there, and tracing is quick."""
    torch.manual_seed(0)
    student = RS4D("tiny", image_size=64, patch_size=8, out_indices=[])
    student.layers, student._taps = student.layers[:1], [0]
    return FeatureGraph(student)


@pytest.fixture(scope="module")
def file(graph: FeatureGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    write_pt2(graph, FACTS, path)
    return path


def test_maps_have_the_names_that_they_have_in_the_other_formats(graph: FeatureGraph, file: Path) -> None:
    found = open_session(file).run(np.zeros((1, 3, 16, 16), np.float32), (16, 16))
    assert tuple(found) == graph.outputs == ("map_0",)


def test_equals_the_graph_at_any_size(graph: FeatureGraph, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_pt2_facts(file) == FACTS
    assert [each.name for each in file.parent.iterdir()] == ["model.pt2"]
    program = read_pt2(file)
    with torch.inference_mode():
        for size in ((64, 64), (128, 96), (40, 24), (16, 136)):
            image = torch.rand(1, 3, *size)
            assert torch.equal(program(image)[0], graph(image)[0])
        for backend in ("chunked", "reference"):  # chosen where the file runs, not where it was written
            monkeypatch.setenv("DISTILL_SCAN_BACKEND", backend)
            torch.testing.assert_close(program(image)[0], graph(image)[0], rtol=1e-4, atol=1e-5)
        monkeypatch.setattr("students.scan.convolution._kernels_load", lambda: False)
        torch.testing.assert_close(program(image)[0], graph(image)[0], rtol=1e-4, atol=1e-5)


def test_linear_layers_are_those_of_the_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.linear._FASTER", True)
    program, image = read_pt2(file), torch.rand(1, 3, 64, 64)
    with torch.inference_mode(), Operators() as ran:
        program(image)
    assert sum("mkldnn._linear" in name for name in ran.names) == 3


def test_a_prompt_head_at_any_size_with_any_number_of_instances(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"neck_channels": 16, "fc_channels": 16, "decoder_channels": 16, "proposals": 20, "max_detections": 5}
    task = FineTuningModule(ColumnarStudent(16), lambda *given: RSPrompter(*given, **arguments))
    task.build(["ship", "plane"])
    with torch.no_grad():
        for part in task.head.roi_head.bbox_head.parameters():
            part.mul_(3)  # scores that differ, as after training
    task.head.score_threshold = 0.535
    graph = InstanceGraph(task)
    write_pt2(graph, replace(FACTS, kind=graph.kind), tmp_path / "model.pt2")
    program, counts = read_pt2(tmp_path / "model.pt2"), set()
    for seed, (height, width) in enumerate(((64, 64), (80, 136), (120, 40), (64, 72), (48, 48))):
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
        size = torch.tensor([height - 3, width])
        with torch.inference_mode():
            expected, found = graph(image, size), program(image, size)
        for own, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, own, rtol=1e-5, atol=1e-5)
        assert found[-1].shape == (5, height // 2, width // 2)
        counts.add(int(found[3]))
    assert {0, 1, 4} <= counts


def test_only_modules_of_this_project_are_imported(file: Path, tmp_path: Path) -> None:
    for module, message in (("antigravity", "only modules of students"), ("students.absent", "cannot be imported")):
        other = tmp_path / f"{module}.pt2"
        with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w") as copy:
            for entry in source.namelist():
                own = entry.endswith(f"/{OPERATORS_FILE}")
                copy.writestr(entry, json.dumps([module]) if own else source.read(entry))
        with pytest.raises(UserError, match=message):
            read_pt2(other)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        read_pt2_facts(path)
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="is damaged"):
        read_pt2(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(UserError, match="no file of `distill export`"):
        read_pt2_facts(path)
    with pytest.raises(UserError, match="cannot be read by PyTorch"):
        read_pt2(path)


@pytest.mark.parametrize("write", [write_pt2, write_onnx])
def test_a_student_of_one_size_is_one_line(write: Callable[..., None], tmp_path: Path) -> None:
    options = {"img_size": 64, "patch_size": 16, "depth": 3, "dynamic_img_size": False}
    graph = FeatureGraph(TimmStudent("vit_tiny_patch16_224", options=options))
    with pytest.raises(
        UserError, match=r"^TimmStudent vit_tiny_patch16_224 cannot be exported .*match model"
    ) as caught:
        write(graph, FACTS, tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
