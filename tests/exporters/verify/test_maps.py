"""Differences of logits and features."""

import numpy as np
import pytest

from distill.exporters.verify.maps import FEATURE, LOGIT, compare_features, compare_logits

LOGITS = np.random.default_rng(0).normal(size=(3, 100, 100)).astype(np.float32)


def test_equal() -> None:
    assert compare_logits(LOGITS, LOGITS).failed is None
    assert compare_features({"map": LOGITS}, {"map": LOGITS}).failed is None


def test_logits() -> None:
    failed = compare_logits(LOGITS, LOGITS + 2 * np.float32(LOGIT)).failed
    assert failed is not None
    assert failed.startswith("logits")


def test_classes() -> None:
    """Nearly equal logits of two classes, so that small differences swap many pixels."""
    close = np.stack([np.zeros((100, 100)), np.full((100, 100), LOGIT / 10)]).astype(np.float32)
    failed = compare_logits(close, close[::-1].copy()).failed
    assert failed is not None
    assert "class" in failed


@pytest.mark.parametrize(("pixels", "side", "fails"), [(1, 8, False), (2, 8, True), (4, 200, False), (5, 200, True)])
def test_one_pixel_of_a_small_image_may_have_another_class(pixels: int, side: int, fails: bool) -> None:
    """Where its two best logits are equal up to rounding."""
    close = np.stack([np.zeros((side, side)), np.full((side, side), LOGIT / 10)]).astype(np.float32)
    other = close.copy()
    other[1, 0, :pixels] = -LOGIT / 10
    assert (compare_logits(close, other).failed is not None) is fails


@pytest.mark.parametrize("wrong", [float("nan"), 1.0])
def test_the_map_that_differs_is_named(wrong: float) -> None:
    other = LOGITS.copy()
    other[0, 0, 0] += wrong
    found = compare_features({"stride_8": LOGITS, "stride_16": LOGITS}, {"stride_8": LOGITS, "stride_16": other})
    assert found.failed is not None
    assert found.name == "stride_16"


def test_small_differences_of_features() -> None:
    rms = float(np.sqrt(np.square(LOGITS).mean()))
    other = LOGITS + np.float32(0.5 * FEATURE * rms)
    assert compare_features({"map": LOGITS}, {"map": other}).failed is None
