"""Scores of segmentation: a confusion matrix of pixels, summed over batches, and what follows from it.

Axes: K classes in label order, H W pixels; rows of the matrix are true classes, columns predicted ones.
"""

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from distill.data.class_table import IGNORE


class PixelConfusion:
    """Counts of true against predicted classes, over any number of images.

    Args:
        class_names: Names in label order.

    Attributes:
        counts: (K, K) int64 pixels, on the device of the labels last seen.
        images: (K + 1,) int64: how many images show each class, and last, how many there were.
    """

    def __init__(self, class_names: list[str]) -> None:
        self.class_names = list(class_names)
        self.counts = torch.zeros(len(class_names), len(class_names), dtype=torch.int64)
        self.images = torch.zeros(len(class_names) + 1, dtype=torch.int64)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Counts the labelled pixels of some images.

        Args:
            predicted: (B, H, W) integers below K.
            labels: (B, H, W) integers below K, or `IGNORE`.
        """
        classes = len(self.class_names)
        counts = multiclass_confusion_matrix(predicted, labels, classes, ignore_index=IGNORE, validate_args=False)
        self.counts = self.counts.to(counts.device) + counts
        shown = [torch.bincount(image[image != IGNORE].long(), minlength=classes) > 0 for image in labels]
        images = torch.stack(shown).sum(0)
        self.images = self.images.to(images.device) + torch.cat([images, images.new_tensor([len(labels)])])

    def by_class(self) -> dict[str, dict[str, float]]:
        """Number of images and of labelled pixels, IoU, F1, precision and recall of every class.

        A value without a denominator is NaN: IoU and F1 of a class that neither labels nor predictions show, precision
        of one that is never predicted, recall of one that is not there.
        """
        counts = self.counts.cpu().double()
        hit, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
        columns = {
            "images": self.images[:-1].cpu().double(),
            "pixels": true,
            "IoU": hit / (true + found - hit),
            "F1": 2 * hit / (true + found),
            "precision": hit / found,
            "recall": hit / true,
        }
        return {n: {key: float(column[k]) for key, column in columns.items()} for k, n in enumerate(self.class_names)}

    def summary(self) -> dict[str, float]:
        """`mIoU`, `macro_F1`, `accuracy`, and `IoU/<class>`, `F1/<class>`.

        The means leave out classes that neither labels nor predictions show; a class that is predicted but not there
        counts as 0. (scikit-learn does the same with `zero_division=nan`.)
        """
        rows = self.by_class()
        mean = {
            key: float(torch.tensor([row[key] for row in rows.values()], dtype=torch.float64).nanmean())
            for key in ("IoU", "F1")
        }
        counts = self.counts.cpu().double()
        return {
            "mIoU": mean["IoU"],
            "macro_F1": mean["F1"],
            "accuracy": float(counts.diagonal().sum() / counts.sum()),
            **{f"{key}/{name}": row[key] for key in ("IoU", "F1") for name, row in rows.items()},
        }
