"""ONNX files of whole detectors: onnxruntime against the graph in PyTorch and `predict` of the head."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.contracts import Prediction, Target
from distill.exported.facts import METADATA_KEY, ExportedFacts
from distill.exporters.instance_graph import InstanceGraph
from distill.exporters.onnx_file import onnx_model, write_onnx
from distill.scene.tile_size import TileSize
from distill.tasks.instances import FineTuningModule
from heads import CascadeMaskRCNN, DenseMasks, MaskRCNN, RSPrompter
from tests.heads.conftest import ColumnarStudent

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.xdist_group("onnx")  # written once

LIMIT, FACTOR = 3, 4
SMALL = {"neck_channels": 16, "fc_channels": 32, "proposals": 48, "max_detections": LIMIT}
SIZES = [((80, 64), (80, 64)), ((64, 64), (61, 64)), ((40, 120), (40, 115)), ((136, 104), (130, 104))]  # padded, real


def task_with(head: Any, **arguments: Any) -> FineTuningModule:
    torch.manual_seed(0)
    task = FineTuningModule(ColumnarStudent(16), lambda info, names: head(info, names, **arguments))
    task.build(["ship", "plane", "car"])
    return task.eval()


def images() -> list[tuple[Tensor, Tensor]]:
    """Images, and how much of them is no padding."""
    random = torch.Generator().manual_seed(0)
    return [(torch.rand(1, 3, *padded, generator=random), torch.tensor(real)) for padded, real in SIZES]


def detector(head: Any) -> FineTuningModule:
    """With scores that differ, as after training, and a threshold that one of the images does not reach."""
    own = {"decoder_channels": 16} if head is RSPrompter else {"mask_convs": 1}
    task = task_with(head, **SMALL, **own, score_threshold=0.0)
    with torch.no_grad():
        for part in task.head.roi_head.bbox_head.parameters():
            part.mul_(FACTOR)
        best = [InstanceGraph(task)(image, size)[1].max() for image, size in images()]
    task.head.score_threshold = float(min(best)) + 1e-3
    return task


class Exported:
    """A task, its graph and its session."""

    def __init__(self, task: FineTuningModule) -> None:
        self.task, self.graph = task, InstanceGraph(task)
        self.model = onnx_model(self.graph)
        self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(self, image: Tensor, size: Tensor) -> dict[str, Tensor]:
        feeds = {"image": image.numpy(), "size": size.numpy()}
        known = {node.name: feeds[node.name] for node in self.session.get_inputs()}
        found = self.session.run(None, known)
        return {name: torch.from_numpy(x) for name, x in zip(self.graph.outputs, found, strict=True)}

    def predict(self, image: Tensor, size: Tensor) -> Prediction:
        nothing = torch.zeros(0, dtype=torch.int64)
        height, width = size.tolist()
        target = Target(1, nothing, nothing, nothing, nothing, (height, width), (height, width))
        return self.task.head.predict(self.graph.features(image), [target])[0]


@pytest.fixture(
    scope="module",
    # Of Mask R-CNN, tests/launch/test_export.py compares the files of a run in every runtime.
    params=[pytest.param(head, marks=pytest.mark.slow) for head in (MaskRCNN, CascadeMaskRCNN, RSPrompter)],
    ids=lambda h: h.__name__,
)
def exported(request) -> Exported:
    return Exported(detector(request.param))


@pytest.fixture(scope="module")
def planes() -> Exported:
    return Exported(task_with(DenseMasks))


def test_onnxruntime_finds_what_predict_does(exported):
    counts, head = [], exported.task.head
    for image, size in images():
        found = exported.run(image, size)
        with torch.no_grad():
            own = dict(zip(exported.graph.outputs, exported.graph(image, size), strict=True))
            predicted = exported.predict(image, size)
        for name, tolerance in (("boxes", 1e-3), ("scores", 1e-4), ("masks", 1e-4), ("labels", 0), ("count", 0)):
            torch.testing.assert_close(found[name], own[name], atol=tolerance, rtol=0)
        count = len(predicted.boxes)
        assert found["count"] == count
        torch.testing.assert_close(found["boxes"][:count], predicted.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(found["scores"][:count], predicted.scores, atol=1e-4, rtol=0)
        counts.append(count)
    assert min(counts) == 0, "one image without any"
    head.max_detections = LIMIT + 1
    more = max(len(exported.predict(*image).boxes) for image in images())
    head.max_detections = LIMIT
    assert (max(counts), more) == (LIMIT, LIMIT + 1), "and one with more than fit"


def test_the_graph_leaves_nothing_to_defaults_of_a_runtime(exported):
    nodes = exported.model.graph.node
    assert {node.domain for node in nodes} == {""}, "only standard operators"
    regions = [node for node in nodes if node.op_type == "RoiAlign"]
    assert regions
    for node in regions:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert given.pop("spatial_scale") in (1 / 2, 1 / 4, 1 / 8, 1 / 16)
        assert given.pop("output_height") == given.pop("output_width")
        assert given == {"sampling_ratio": 0, "mode": b"avg", "coordinate_transformation_mode": b"half_pixel"}
    assert all(len(node.input) == 5 for node in nodes if node.op_type == "NonMaxSuppression")


def test_planes_at_any_size(planes):
    for padded, real in [*SIZES, ((8, 8), (5, 8))]:
        image = torch.rand(1, 3, *padded)
        with torch.no_grad():
            (own,) = planes.graph(image, torch.tensor(real))
        torch.testing.assert_close(planes.run(image, torch.tensor(real))["probabilities"], own, atol=1e-5, rtol=0)


def test_a_file_tells_its_names_its_sizes_and_its_facts(planes, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.exporters.onnx_file.onnx_model", lambda graph: planes.model)
    facts = ExportedFacts(
        kind="planes",
        task="instances",
        class_names=("ship", "plane", "car"),
        stride=planes.graph.stride,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        size=TileSize(tile=64, overlap=16),
        run="runs/ships",
        student="students.RS4D",
        head="heads.DenseMasks",
        digest="0",
        version="1",
    )
    path = tmp_path / "model.onnx"
    write_onnx(planes.graph, facts, path)
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    stored = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert json.loads(stored)["class_names"] == ["ship", "plane", "car"]
    assert ExportedFacts.from_json(stored, path) == facts
    image = session.get_inputs()[0]
    assert (image.name, image.type, image.shape[:2]) == ("image", "tensor(float)", [1, 3])
    assert [node.name for node in session.get_outputs()] == ["probabilities"]
