"""Ranking and suppression of a fixed length, against MMDetection's and torchvision's own."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from heads.mmdet.padded import padded_nms, padded_top_k

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LIMIT = 20
IOU = 0.47  # no two boxes have it: OpenVINO also drops a box at the threshold itself
pytestmark = pytest.mark.filterwarnings("ignore:# The axis name")  # inputs of one length share its name


def problem(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a coarse grid, so that many are equal, and scores of ten values, so that most are tied."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 12, (count, 2), generator=random) * 4.0
    sides = torch.randint(0, 5, (count, 2), generator=random) * 4.0  # a fifth of them empty
    scores = torch.randint(0, 10, (count,), generator=random) / 10
    return torch.cat([corners, corners + sides], 1), scores, torch.randint(0, 3, (count,), generator=random)


PROBLEMS = [problem(seed, count) for seed, count in ((0, 1), (1, 8), (2, 60), (3, 400), (4, 3000))]
NO_DETECTION = (PROBLEMS[2][0], torch.zeros(60), PROBLEMS[2][2])


def expected(boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """Indices that torchvision keeps in each class, best first; of equal scores the lower index first."""
    kept = [
        own[torchvision.ops.nms(boxes[own], scores[own], IOU)]
        for label in range(3)
        if len(own := ((classes == label) & (scores > 0.05)).nonzero().flatten())
    ]
    found = torch.cat([torch.zeros(0, dtype=torch.int64), *kept]).sort().values
    return found[scores[found].sort(descending=True, stable=True).indices][:LIMIT]


class Suppression(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        return (*padded_nms(boxes, scores, classes, IOU, 0.05, LIMIT), *padded_top_k(scores, 100))


@pytest.fixture(scope="module")
def model() -> bytes:
    from heads.mmdet.onnx import detector_translations

    axes = {0: torch.export.Dim("candidates", min=1)}
    program = torch.onnx.export(
        Suppression().eval(),
        PROBLEMS[1],
        dynamo=True,
        opset_version=18,
        dynamic_shapes=(axes, axes, axes),
        input_names=["boxes", "scores", "classes"],
        custom_translation_table=dict(detector_translations()),
        verbose=False,
    )
    assert {node.domain for node in program.model_proto.graph.node} == {""}, "only standard operators"
    content: bytes = program.model_proto.SerializeToString()
    return content


@pytest.fixture(scope="module")
def run(model: bytes) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, feeds_of(inputs))


@pytest.fixture(scope="module")
def run_openvino(model: bytes) -> Any:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: list(compiled(feeds_of(inputs)).values())


def feeds_of(inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    return {name: x.numpy() for name, x in zip(("boxes", "scores", "classes"), inputs, strict=True)}


@pytest.mark.parametrize("inputs", [*PROBLEMS, NO_DETECTION], ids=lambda inputs: str(len(inputs[0])))
def test_suppression_equals_that_of_torchvision_and_of_the_runtimes(inputs, run, run_openvino):
    kept, count = padded_nms(*inputs, IOU, 0.05, LIMIT)
    assert torch.equal(kept[:count], expected(*inputs))
    assert not kept[count:].any()
    values, indices = padded_top_k(inputs[1], 100)
    real = min(100, len(inputs[1]))
    ranked = inputs[1].sort(descending=True, stable=True)
    assert torch.equal(values[:real], ranked.values[:real])
    assert torch.equal(indices[:real], ranked.indices[:real])
    assert values[real:].isneginf().all()
    own = (kept, count, values, indices)
    for mine, theirs in zip(own, run(inputs), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)
    for mine, theirs in zip(own[:3], run_openvino(inputs), strict=False):  # which ranks equal scores in any order
        np.testing.assert_array_equal(mine.numpy(), theirs)


def test_no_candidate_at_all():
    kept, count = padded_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5, 0.0, 3)
    assert kept.tolist() == [0, 0, 0]
    assert count.item() == 0


def test_the_operators_keep_to_their_schemas():
    torch.library.opcheck(padded_nms, (*PROBLEMS[2], IOU, 0.05, LIMIT))
    torch.library.opcheck(padded_top_k, (PROBLEMS[2][1], 100))
