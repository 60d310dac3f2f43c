"""Balanced accuracy.

Axes: N samples.
"""

import torch
from torch import Tensor


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """The mean over classes of the share of a class's samples that are right; 1 / K by chance with K classes.

    Classes that `labels` do not show are left out.

    Args:
        predicted: (N,) integers.
        labels: (N,) integers, at least one.
    """
    count = int(labels.max()) + 1
    of_class = torch.bincount(labels, minlength=count)
    right = torch.bincount(labels[predicted == labels], minlength=count)
    shown = of_class > 0
    return float((right[shown].double() / of_class[shown]).mean())
