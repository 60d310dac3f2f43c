"""The confusion matrix of pixels and the scores read off it, against scikit-learn's."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from distill.data.class_table import IGNORE
from distill.evaluation.segmentation import PixelConfusion

NAMES = list("abcde")
BY_CLASS: dict[str, Callable[..., Any]] = {
    "IoU": metrics.jaccard_score,
    "F1": metrics.f1_score,
    "precision": partial(metrics.precision_score, zero_division=np.nan),
    "recall": partial(metrics.recall_score, zero_division=np.nan),
}
MEANS = {"IoU": "mIoU", "F1": "macro_F1"}
EXAMPLES = {  # classes that labels and predictions show
    "every class": ("abcde", "abcde"),
    "a class that is nowhere": ("abde", "abde"),
    "a class that is never predicted": ("abcde", "abde"),
    "a class that is not there": ("abde", "abcde"),
    "two of the above": ("acd", "abc"),
    "a single class": ("c", "c"),
    "nothing right": ("ab", "cd"),
}


def example(true: str, found: str, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions and labels (3, 9, 11) of these classes alone; a tenth of the labels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels, guesses = (
        torch.tensor([NAMES.index(name) for name in names])[torch.randint(len(names), (3, 9, 11), generator=generator)]
        for names in (true, found)
    )
    possible = torch.isin(labels, torch.tensor([NAMES.index(name) for name in found]))
    predicted = torch.where(possible & (torch.rand(labels.shape, generator=generator) < 0.6), labels, guesses)
    return predicted, torch.where(torch.rand(labels.shape, generator=generator) < 0.1, IGNORE, labels)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
@pytest.mark.parametrize("given", EXAMPLES.values(), ids=EXAMPLES)
def test_counts_and_scores_are_scikit_learns(given: tuple[str, str], dtype: torch.dtype) -> None:
    confusion = PixelConfusion(NAMES)
    batches = [example(*given, seed) for seed in range(3)]
    for predicted, labels in batches:
        confusion.update(predicted.to(dtype), labels.to(dtype))
    predicted, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    found, true = predicted[labels != IGNORE].numpy(), labels[labels != IGNORE].numpy()
    classes = range(len(NAMES))

    assert confusion.counts.dtype == torch.int64
    expected = metrics.confusion_matrix(true, found, labels=classes)
    assert confusion.counts.tolist() == expected.tolist()  # rows are true classes

    by_class, summary = confusion.by_class(), confusion.summary()
    np.testing.assert_equal([by_class[name]["pixels"] for name in NAMES], expected.sum(1))
    shown = np.union1d(true, found)
    for key, function in BY_CLASS.items():
        values = np.full(len(NAMES), np.nan)
        values[shown] = function(true, found, labels=shown, average=None)
        np.testing.assert_allclose([by_class[name][key] for name in NAMES], values, rtol=0, atol=1e-12)
        if mean := MEANS.get(key):
            assert summary[mean] == pytest.approx(function(true, found, labels=shown, average="macro"), abs=1e-12)
            np.testing.assert_allclose([summary[f"{key}/{name}"] for name in NAMES], values, rtol=0, atol=1e-12)
    assert summary["accuracy"] == pytest.approx(metrics.accuracy_score(true, found), abs=1e-12)


def test_by_class_by_hand() -> None:
    """IoU 1/3 with class c, all false positives, which counts as 0; d, which is nowhere, enters no mean."""
    confusion = PixelConfusion(NAMES[:4])
    predicted, labels = torch.tensor([[[0, 0, 2, 1, 3]]]), torch.tensor([[[0, 1, 1, 1, IGNORE]]]).to(torch.uint8)
    confusion.update(predicted, labels)
    assert confusion.counts.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    rows, third = confusion.by_class(), pytest.approx(1 / 3)
    assert [row.pop("images") for row in rows.values()] == [1, 1, 0, 0]
    assert confusion.images.tolist() == [1, 1, 0, 0, 1]
    assert rows["a"] == {"pixels": 1, "IoU": 1 / 2, "F1": pytest.approx(2 / 3), "precision": 1 / 2, "recall": 1}
    assert rows["b"] == {"pixels": 3, "IoU": third, "F1": 1 / 2, "precision": 1, "recall": third}
    assert rows["c"] == {"pixels": 0, "IoU": 0, "F1": 0, "precision": 0, "recall": pytest.approx(math.nan, nan_ok=True)}
    assert all(math.isnan(rows["d"][key]) for key in BY_CLASS)
    assert confusion.summary()["mIoU"] == pytest.approx((1 / 2 + 1 / 3) / 3)


def test_nothing_labelled_is_no_score() -> None:
    confusion = PixelConfusion(NAMES)
    confusion.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), IGNORE, dtype=torch.uint8))
    assert all(math.isnan(value) for value in confusion.summary().values())


def test_counts_go_beyond_32_bits() -> None:
    confusion = PixelConfusion(["a", "b"])
    confusion.counts[0, 0] = 2**40
    confusion.update(torch.tensor([[[0]]]), torch.tensor([[[0]]]))
    assert int(confusion.counts[0, 0]) == 2**40 + 1
