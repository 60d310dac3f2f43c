"""The confusion matrix against loops over pixels and against torchmetrics."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from distill.data.class_table import IGNORE
from distill.evaluation.segmentation import PixelConfusion

NAMES = ["a", "b", "c", "d"]


def example(seed: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (3, 9, 11), generator=generator)
    predicted = torch.where(torch.rand(labels.shape, generator=generator) < 0.6, labels, labels.flip(-1))
    return predicted, torch.where(torch.rand(labels.shape, generator=generator) < 0.1, IGNORE, labels)


def test_scores_are_those_of_loops_and_of_torchmetrics() -> None:
    confusion = PixelConfusion(NAMES)
    for seed in range(3):
        confusion.update(*example(seed))
    predicted, labels = (torch.cat(parts) for parts in zip(*map(example, range(3)), strict=True))
    scores = confusion.summary()
    flat = zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True)
    pairs = [(p, t) for p, t in flat if t != IGNORE]
    assert confusion.counts.dtype == torch.int64
    assert int(confusion.counts.sum()) == len(pairs)
    ious, f1s = [], []
    for k, name in enumerate(NAMES):
        hit = sum(p == t == k for p, t in pairs)
        either = sum(k in (p, t) for p, t in pairs)
        ious.append(hit / either)
        f1s.append(2 * hit / (either + hit))
        assert scores[f"IoU/{name}"] == pytest.approx(ious[-1], abs=1e-12)
        assert scores[f"F1/{name}"] == pytest.approx(f1s[-1], abs=1e-12)
    assert scores["mIoU"] == pytest.approx(sum(ious) / 4, abs=1e-12)
    assert scores["macro_F1"] == pytest.approx(sum(f1s) / 4, abs=1e-12)
    assert scores["accuracy"] == pytest.approx(sum(p == t for p, t in pairs) / len(pairs), abs=1e-12)
    iou = MulticlassJaccardIndex(4, ignore_index=IGNORE)(predicted, labels)
    f1 = MulticlassF1Score(4, average="macro", ignore_index=IGNORE, multidim_average="global")(predicted, labels)
    assert scores["mIoU"] == pytest.approx(float(iou), abs=1e-6)
    assert scores["macro_F1"] == pytest.approx(float(f1), abs=1e-6)


def test_by_class_by_hand() -> None:
    confusion = PixelConfusion(["a", "b"])
    confusion.update(torch.tensor([[[0, 0, 1, 1, 1]]]), torch.tensor([[[0, 1, 1, 1, IGNORE]]]).to(torch.uint8))
    assert confusion.counts.tolist() == [[1, 0], [1, 2]]  # rows are true classes
    assert confusion.by_class() == {
        "a": {"pixels": 1, "IoU": 1 / 2, "F1": pytest.approx(2 / 3), "precision": 1 / 2, "recall": 1.0},
        "b": {"pixels": 3, "IoU": pytest.approx(2 / 3), "F1": 4 / 5, "precision": 1.0, "recall": pytest.approx(2 / 3)},
    }


def test_absent_classes_are_left_out_but_invented_ones_count() -> None:
    confusion = PixelConfusion(NAMES)
    confusion.update(torch.tensor([[[0, 0, 2, 1]]]), torch.tensor([[[0, 0, 1, 1]]]))
    scores = confusion.summary()
    assert math.isnan(scores["IoU/d"])  # nowhere
    assert scores["IoU/c"] == scores["F1/c"] == 0  # predicted, but not there
    assert scores["mIoU"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_nothing_labelled_is_no_score() -> None:
    confusion = PixelConfusion(NAMES)
    confusion.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), IGNORE, dtype=torch.uint8))
    assert all(math.isnan(value) for value in confusion.summary().values())


def test_counts_go_beyond_32_bits() -> None:
    confusion = PixelConfusion(["a", "b"])
    confusion.counts[0, 0] = 2**40
    confusion.update(torch.tensor([[[0]]]), torch.tensor([[[0]]]))
    assert int(confusion.counts[0, 0]) == 2**40 + 1
