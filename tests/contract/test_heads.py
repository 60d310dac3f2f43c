"""What every head must do with the maps of a pyramid and with maps of one stride.

Two kinds: heads that find instances have a loss and predictions, decoders give class logits for every position.

Axes: B batch, C channels, K classes, N instances, H W pixels.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import heads
from distill.contracts import HeadBase, Target
from tests.contract.cases import CLASSES, HEADS, Case, assert_reached, build_head, distance

SQUARE, ODD = (64, 64), (50, 37)
ORIGINAL = (96, 192)  # of the image files
FINDING = [name for name, case in HEADS.items() if issubclass(getattr(heads, case.name), HeadBase)]
DECODING = [name for name in HEADS if name not in FINDING]
# Records drive the parts of MMDetection, which no graph can hold.
IN_ONE_GRAPH = [name for name, case in HEADS.items() if getattr(heads, case.name).forward is not nn.Module.forward]


class Maps:
    """A `feature_info`."""

    def __init__(self, channels: list[int], reductions: list[int]) -> None:
        self._channels, self._reductions = channels, reductions

    def channels(self) -> list[int]:
        return self._channels

    def reduction(self) -> list[int]:
        return self._reductions

    def draw(self, size: tuple[int, int] = SQUARE) -> list[Tensor]:
        """Maps of two images of a size in pixels, always the same."""
        generator = torch.Generator().manual_seed(1)
        return [
            torch.randn(2, channels, -(-size[0] // stride), -(-size[1] // stride), generator=generator)
            for channels, stride in zip(self._channels, self._reductions, strict=True)
        ]


MAPS = {"pyramid": ([8, 16, 24, 32], [4, 8, 16, 32]), "one stride": ([16, 16], [8, 8])}


@pytest.fixture(params=MAPS.values(), ids=MAPS)
def info(request: pytest.FixtureRequest) -> Maps:
    return Maps(*request.param)


@pytest.fixture(params=HEADS)
def case(request: pytest.FixtureRequest) -> Case:
    return HEADS[request.param]


def targets(size: tuple[int, int] = SQUARE) -> list[Target]:
    """Two images, three instances; those of the first image are read at 48 rows of its input."""
    found = []
    for index, (boxes, labels) in enumerate([([[4, 4, 30, 28], [14, 20, 36, 44]], [0, 1]), ([[10, 30, 24, 46]], [2])]):
        masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
        found.append(
            Target(
                image_id=7 + index,
                boxes=torch.tensor(boxes, dtype=torch.float32),
                labels=torch.tensor(labels),
                masks=masks,
                crowd=torch.zeros(len(boxes), dtype=torch.bool),
                size=(48, size[1]),
                original_size=ORIGINAL,
            )
        )
    return found


def outputs(head: Any, maps: list[Tensor]) -> Tensor:
    """Logits, or all losses in order of their names."""
    if not isinstance(head, HeadBase):
        return head(maps)
    torch.manual_seed(5)  # regions are sampled
    losses = head.loss(maps, targets())
    return torch.stack([losses[name] for name in sorted(losses)])


@pytest.mark.parametrize("size", [SQUARE, ODD], ids=["square", "odd"])
@pytest.mark.parametrize("name", FINDING)
def test_losses_are_positive_scalars(name: str, info: Maps, size: tuple[int, int]) -> None:
    head = build_head(HEADS[name], info)
    assert isinstance(head, HeadBase)
    losses = head.loss(info.draw(size), targets(size))
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert loss > 0


@pytest.mark.parametrize("size", [SQUARE, ODD], ids=["square", "odd"])
@pytest.mark.parametrize("name", FINDING)
def test_predictions_are_in_the_frame_of_the_file(name: str, info: Maps, size: tuple[int, int]) -> None:
    head = build_head(HEADS[name], info)
    found = head.predict(info.draw(size), targets(size))
    assert [prediction.image_id for prediction in found] == [7, 8]
    for prediction in found:
        count = len(prediction.scores)
        assert prediction.boxes.shape == (count, 4)
        assert prediction.boxes.dtype == prediction.scores.dtype == torch.float32
        assert prediction.labels.shape == (count,)
        assert prediction.labels.dtype == torch.int64
        assert set(prediction.labels.tolist()) <= set(range(len(CLASSES)))
        assert prediction.masks.shape == (count, *ORIGINAL)
        assert prediction.masks.dtype == torch.bool
        assert (prediction.scores.diff() <= 0).all()
        assert (prediction.boxes >= 0).all()
        assert (prediction.boxes <= torch.tensor([192, 96, 192, 96])).all()


@pytest.mark.parametrize("size", [SQUARE, ODD, (1, 1)], ids=["square", "odd", "a pixel"])
@pytest.mark.parametrize("name", DECODING)
def test_logits_are_at_the_announced_stride(name: str, info: Maps, size: tuple[int, int]) -> None:
    head = build_head(HEADS[name], info)
    logits = head(info.draw(size))
    assert logits.shape == (2, len(CLASSES), -(-size[0] // head.stride), -(-size[1] // head.stride))
    assert logits.isfinite().all()


def test_training_and_eval_mode(case: Case, info: Maps) -> None:
    """Eval mode repeats itself and changes nothing; only batch norms and dropout tell the modes apart."""
    head = build_head(case, info)
    differs = any(isinstance(part, _BatchNorm) or getattr(part, "p", 0) for part in head.modules())
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    first = outputs(head, info.draw())
    assert torch.equal(outputs(head, info.draw()), first)
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())
    assert torch.equal(outputs(head.train(), info.draw()), first) != differs


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_gradient_reaches_every_parameter(case: Case, info: Maps, autocast: bool) -> None:
    head = build_head(case, info)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = outputs(head, info.draw()).float()
    (result * torch.randn(result.shape, generator=torch.Generator().manual_seed(2)).abs()).sum().backward()
    assert_reached(head)


def test_bfloat16_autocast_changes_little(case: Case, info: Maps) -> None:
    head = build_head(case, info)
    expected = outputs(head, info.draw())
    with torch.autocast("cpu", torch.bfloat16):
        result = outputs(head, info.draw())
    assert result.isfinite().all()
    assert distance(result, expected) < 0.05


def test_a_state_dict_is_all_of_the_head(case: Case, info: Maps) -> None:
    head = build_head(case, info).train()
    outputs(head, info.draw())  # moves what batch norms remember
    other = build_head(case, info, seed=9)
    expected = outputs(head.eval(), info.draw())
    assert not torch.equal(outputs(other, info.draw()), expected)
    other.load_state_dict(head.state_dict(), strict=True)
    assert torch.equal(outputs(other, info.draw()), expected)


def test_the_seed_determines_the_weights(case: Case, info: Maps) -> None:
    first, again, other = (build_head(case, info, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(MAPS["pyramid"], id="pyramid"),
        pytest.param(MAPS["one stride"], id="one stride", marks=pytest.mark.slow),
    ],
    indirect=True,
)
@pytest.mark.parametrize("name", IN_ONE_GRAPH)
def test_compiles_in_one_graph(name: str, info: Maps) -> None:
    torch._dynamo.reset()
    head = build_head(HEADS[name], info)
    compiled = torch.compile(head, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(info.draw(ODD)), head(info.draw(ODD)), rtol=1e-4, atol=1e-5)


def test_channels_last(case: Case, info: Maps) -> None:
    head = build_head(case, info)
    expected = outputs(head, info.draw())
    lasting = [feature.contiguous(memory_format=torch.channels_last) for feature in info.draw()]
    torch.testing.assert_close(outputs(head, lasting), expected, rtol=1e-3, atol=1e-4)


def test_images_of_a_batch_do_not_see_each_other(case: Case, info: Maps) -> None:
    head = build_head(case, info)
    both: Any = head.predict(info.draw(), targets()) if case.name in FINDING else head(info.draw())
    for index in range(2):
        maps = [feature[index : index + 1] for feature in info.draw()]
        if case.name in FINDING:
            (alone,) = head.predict(maps, targets()[index : index + 1])
            torch.testing.assert_close(both[index].scores, alone.scores, rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(both[index : index + 1], head(maps), rtol=1e-4, atol=1e-5)
