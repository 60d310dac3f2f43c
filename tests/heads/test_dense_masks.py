from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.contracts import HeadBase, Target
from distill.errors import UserError
from heads import DenseMasks
from heads.dense_masks import dense_mask_losses

Build = Callable[..., Target]


@pytest.fixture
def head(maps: Any) -> DenseMasks:
    torch.manual_seed(0)
    return DenseMasks(maps([8, 16], [8, 8]), ["ship", "vehicle"])


def painted(head: DenseMasks, monkeypatch: pytest.MonkeyPatch, logits: Tensor) -> None:
    """Makes the head see these logits (B, K, H, W)."""
    monkeypatch.setattr(head, "forward", lambda features: logits)


def test_is_a_head_and_every_parameter_learns(head: DenseMasks, target: Build) -> None:
    assert isinstance(head, HeadBase)
    features = [torch.randn(2, 8, 8, 8), torch.randn(2, 16, 8, 8)]
    losses = head.loss(features, [target([[8, 8, 24, 24]], [1]), target([], [])])
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_each_token_decodes_its_own_pixels(head: DenseMasks) -> None:
    features = torch.randn(1, 16, 5, 7)
    assert head([features]).shape == (1, 2, 40, 56)
    other = features.clone()
    other[..., 4, 6] += 1
    difference = (head([features]) - head([other])).abs().sum(1)[0]
    assert difference[:24, :40].sum() == 0, "pixels away from the token and its neighbours changed"
    assert difference[32:, 48:].sum() > 0


def test_the_right_mask_costs_less_than_any_other(
    head: DenseMasks, target: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = target([[8, 8, 24, 24]], [1])
    logits = torch.full((1, 2, 64, 64), -6.0)
    logits[0, 1, 8:24, 8:24] = 6
    painted(head, monkeypatch, logits)
    right = sum(head.loss([], [truth]).values())
    for change in (logits.flip(1), logits.roll(8, -1), torch.full_like(logits, -6.0)):
        painted(head, monkeypatch, change)
        assert sum(head.loss([], [truth]).values()) > 2 * right


def test_masks_become_numbers_one_at_a_time(target: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the masks of 300 objects of 1024 px would take 1.2 GiB."""
    sizes = []
    to = Tensor.to

    def recorded(tensor: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        if tensor.dtype == torch.bool:
            sizes.append(tensor.numel())
        return to(tensor, *arguments, **keywords)

    monkeypatch.setattr(Tensor, "to", recorded)
    boxes = [[8, 8, 24, 24], [30, 8, 44, 24], [8, 30, 24, 60]]
    dense_mask_losses(torch.zeros(1, 2, 64, 64), [target(boxes, [1, 0, 1], crowd=[False, False, True])], stride=1)
    assert sizes == [64 * 64] * 3


def test_crowd_pixels_cost_nothing(head: DenseMasks, target: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = target([[0, 0, 16, 16]], [0], crowd=[True])
    values = []
    for inside in (-6.0, 6.0):
        logits = torch.full((1, 2, 64, 64), -6.0)
        logits[0, :, :16, :16] = inside
        painted(head, monkeypatch, logits)
        values.append(float(sum(head.loss([], [truth]).values())))
    assert values[0] == pytest.approx(values[1])


def test_instances_are_regions_in_the_files_frame(
    head: DenseMasks, target: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.full((1, 2, 64, 64), -9.0)
    logits[0, 0, 8:16, 8:24] = 3  # two ships, the second less certain
    logits[0, 0, 24:32, 8:24] = 1
    logits[0, 1, 8:16, 32:40] = 5  # a vehicle
    logits[0, 1, 20:22, 40:42] = 1  # too small
    logits[0, 1, 56:, 56:] = 9  # padding
    painted(head, monkeypatch, logits)
    frame = target([], [], size=(48, 48), original_size=(96, 96))
    (prediction,) = head.predict([], [frame])
    assert prediction.labels.tolist() == [1, 0, 0]
    assert prediction.scores.tolist() == sorted(prediction.scores.tolist(), reverse=True)
    assert prediction.masks.shape == (3, 96, 96)
    expected = torch.tensor([[64, 16, 80, 32], [16, 16, 48, 32], [16, 48, 48, 64]], dtype=torch.float32)
    assert (prediction.boxes - expected).abs().max() <= 2
    assert prediction.masks[1].sum() == pytest.approx(32 * 16, rel=0.15)


def test_a_grid_that_stops_short_of_the_image_is_not_stretched(
    head: DenseMasks, target: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ConvNeXt and its like round their grids down: 64 of 72 px."""
    logits = torch.full((1, 2, 64, 64), -9.0)
    logits[0, 0, 8:16, 40:56] = 3
    logits[0, 1, 40:, 40:] = 3  # up to the border
    painted(head, monkeypatch, logits)
    (prediction,) = head.predict([], [target([], [], size=(60, 72), original_size=(60, 72))])
    assert sorted(prediction.boxes.tolist()) == [[40, 8, 56, 16], [40, 40, 72, 60]]


def test_nothing_found_is_an_empty_prediction(head: DenseMasks, target: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(head, monkeypatch, torch.full((1, 2, 64, 64), -9.0))
    (prediction,) = head.predict([], [target([], [], original_size=(30, 40))])
    assert prediction.boxes.shape == (0, 4)
    assert prediction.masks.shape == (0, 30, 40)


def test_no_classes_is_an_error(maps: Any) -> None:
    with pytest.raises(UserError, match="at least one class"):
        DenseMasks(maps([8], [8]), [])
