"""A probe by nearest neighbours.

Axes: N samples with known classes, M samples to classify, C channels.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

NEIGHBOURS = 5
_AT_ONCE = 1024  # samples whose similarities to all others are held at once


def nearest_classes(
    known: Tensor, labels: Tensor, features: Tensor, classes: int, neighbours: int = NEIGHBOURS
) -> Tensor:
    """The commonest class among the nearest known samples by cosine; of equally common ones the first.

    scikit-learn's `KNeighborsClassifier(metric="cosine")` gives the same.

    Args:
        known: (N, C).
        labels: (N,) integers below `classes`.
        features: (M, C).
        classes: Number of classes.
        neighbours: How many vote; all where there are fewer.

    Returns:
        Classes (M,).
    """
    known = normalize(known.double(), dim=1)
    found = []
    for part in features.split(_AT_ONCE):
        nearest = (normalize(part.double(), dim=1) @ known.T).topk(min(neighbours, len(known)), dim=1).indices
        votes = torch.zeros(len(part), classes, dtype=torch.int64, device=labels.device)
        found.append(votes.scatter_add_(1, labels[nearest], torch.ones_like(nearest)).argmax(dim=1))
    return torch.cat(found)
