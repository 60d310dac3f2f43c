"""Loss terms against loops over pixels, and what must not depend on pixels without a label."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.class_table import IGNORE
from distill.errors import UserError
from distill.tasks.losses.segmentation import TERMS, SegmentationLossSettings, combine

WEIGHTS = [0.5, 2.0, 1.0, 3.0]


def example(seed: int = 0, size: tuple[int, int] = (7, 9), ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    """Logits (2, 4, H, W) and labels in which class 3 does not occur."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, *size, generator=generator)
    labels = torch.randint(0, 3, (2, *size), generator=generator)
    labels[torch.rand(2, *size, generator=generator) < ignored] = IGNORE
    return logits, labels


def value(name: str, logits: Tensor, labels: Tensor, **settings: Any) -> Tensor:
    return combine(SegmentationLossSettings({name: 1.0}, **settings), logits, labels)[name]


def entropies(logits: Tensor, labels: Tensor) -> list[tuple[float, int]]:
    """-log p and class of every labelled pixel, one by one."""
    found = []
    for b, y, x in itertools.product(*map(range, labels.shape)):
        label = int(labels[b, y, x])
        if label != IGNORE:
            scores = [math.exp(v) for v in logits[b, :, y, x].tolist()]
            found.append((-math.log(scores[label] / sum(scores)), label))
    return found


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_and_focal_pixel_by_pixel(weights: list[float] | None) -> None:
    logits, labels = example()
    pixels = entropies(logits, labels)
    total = sum((weights or [1] * 4)[k] for _, k in pixels)
    expected = sum(e * (weights or [1] * 4)[k] for e, k in pixels) / total
    assert float(value("cross_entropy", logits, labels, class_weights=weights)) == pytest.approx(expected, rel=1e-5)
    builtin = F.cross_entropy(logits, labels, None if weights is None else torch.tensor(weights), ignore_index=IGNORE)
    assert float(value("cross_entropy", logits, labels, class_weights=weights)) == pytest.approx(float(builtin))
    for gamma in (0.0, 0.5, 2.0):
        expected = sum((1 - math.exp(-e)) ** gamma * e * (weights or [1] * 4)[k] for e, k in pixels) / total
        given = value("focal", logits, labels, class_weights=weights, focal_gamma=gamma)
        assert float(given) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_class_by_class(weights: list[float] | None) -> None:
    logits, labels = example()
    probability = logits.double().softmax(1).numpy()
    losses = []
    for k in range(4):
        labelled = (labels != IGNORE).numpy()
        p, t = probability[:, k][labelled], (labels.numpy()[labelled] == k).astype(float)
        losses.append(1 - 2 * (p * t).sum() / (p + t).sum() if t.any() else 0.0)
    assert losses[3] == 0  # not there: costs nothing, and counts
    assert float(value("dice", logits, labels, class_weights=weights)) == pytest.approx(
        np.average(losses, weights=weights), rel=1e-5
    )


def test_ohem_keeps_the_hard_pixels() -> None:
    logits, labels = example(size=(11, 13))
    pixels = sorted((e for e, _ in entropies(logits, labels)), reverse=True)
    hard = [e for e in pixels if e > -math.log(0.7)]
    assert 1 < len(hard) < len(pixels)
    assert float(value("ohem", logits, labels)) == pytest.approx(np.mean(hard), rel=1e-5)
    least = math.ceil(len(pixels) * 0.9)
    assert float(value("ohem", logits, labels, ohem_fraction=0.9)) == pytest.approx(np.mean(pixels[:least]), rel=1e-5)
    everything = value("ohem", logits, labels, ohem_threshold=1.0)
    assert float(everything) == pytest.approx(float(value("cross_entropy", logits, labels)), rel=1e-5)


def slow_boundary(probability: np.ndarray, labels: np.ndarray, tolerance: int) -> float:
    """The boundary loss with windows spelt out."""

    def largest(plane: np.ndarray, by: int) -> np.ndarray:
        height, width = plane.shape
        rows = [slice(max(0, y - by), y + by + 1) for y in range(height)]
        return np.array([[plane[r, max(0, x - by) : x + by + 1].max() for x in range(width)] for r in rows])

    losses = []
    for b, k in itertools.product(range(len(labels)), range(probability.shape[1])):
        known = labels[b] != IGNORE
        edges = []
        for plane in ((labels[b] == k).astype(float), probability[b, k]):
            outside = np.where(known, 1 - plane, 0)
            edges.append(np.where(known, largest(outside, 1) - outside, 0))
        true, found = edges
        if true.sum() == 0:
            continue
        precision = (found * largest(true, tolerance)).sum() / found.sum()
        recall = (true * largest(found, tolerance)).sum() / true.sum()
        losses.append(1 - 2 * precision * recall / (precision + recall))
    return float(np.mean(losses))


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_boundary_window_by_window(tolerance: int) -> None:
    logits, labels = example(1, size=(10, 7), ignored=0.1)
    expected = slow_boundary(logits.double().softmax(1).numpy(), labels.numpy(), tolerance)
    assert float(value("boundary", logits, labels, boundary_tolerance=tolerance)) == pytest.approx(expected, rel=1e-4)


def test_boundary_forgives_within_the_tolerance_alone() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[:, :, 10:] = 1

    def loss(border: int) -> float:
        shifted = torch.zeros_like(labels)
        shifted[:, :, border:] = 1
        logits = 60 * F.one_hot(shifted, 2).movedim(-1, 1).float()
        return float(value("boundary", logits, labels))

    assert loss(10) == loss(8) == pytest.approx(0, abs=1e-5)
    assert loss(5) == pytest.approx(1, abs=1e-5)
    labels[:, :, 9:11] = IGNORE  # the border itself is unknown, so there is none to find
    assert loss(10) == 0


@pytest.mark.parametrize("name", TERMS)
def test_pixels_without_a_label_do_not_matter(name: str) -> None:
    logits, labels = example()
    changed = torch.where((labels == IGNORE)[:, None], -5 * logits.flip(1), logits).requires_grad_()
    loss = value(name, changed, labels)
    assert loss.item() == pytest.approx(value(name, logits, labels).item(), rel=1e-5)
    loss.backward()
    assert not changed.grad.movedim(1, -1)[labels == IGNORE].any()
    assert changed.grad.any()


@pytest.mark.parametrize("name", TERMS)
def test_nothing_labelled_costs_nothing(name: str) -> None:
    logits, labels = example(ignored=2.0)
    logits.requires_grad_()
    loss = value(name, logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sure_predictions_stay_finite(name: str, dtype: torch.dtype) -> None:
    for scale in (1e4, -1e4):
        logits = (scale * F.one_hot(torch.arange(36).view(1, 6, 6) % 3, 4).movedim(-1, 1)).to(dtype).requires_grad_()
        loss = value(name, logits, torch.arange(36).view(1, 6, 6) % 3, focal_gamma=0.5)
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_differences(name: str) -> None:
    logits, labels = example(size=(4, 5))
    settings = SegmentationLossSettings(class_weights=WEIGHTS)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    inputs = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TERMS[name](x, labels, weights, settings), inputs)


def test_terms_are_summed_by_their_weights() -> None:
    logits, labels = example()
    values = combine(SegmentationLossSettings({"dice": 0.5, "focal": 2.0}), logits, labels)
    assert list(values) == ["dice", "focal", "loss"]
    assert float(values["loss"]) == pytest.approx(0.5 * float(values["dice"]) + 2 * float(values["focal"]))
    as_bytes = combine(SegmentationLossSettings({"dice": 0.5, "focal": 2.0}), logits, labels.to(torch.uint8))
    assert values == as_bytes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": {"dyce": 1.0}}, "did you mean dice"),
        ({"terms": {"dice": -1.0}}, "cannot be negative"),
        ({"class_weights": [0.0, 0.0]}, "one of them above 0"),
        ({"focal_gamma": -1.0}, "focal_gamma -1"),
        ({"ohem_threshold": 0.0}, "ohem_threshold 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SegmentationLossSettings(**settings)
