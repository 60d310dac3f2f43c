"""Which of the candidates a probe takes."""

from collections import Counter
from collections.abc import Sequence

import torch


def choose(labels: Sequence[int], limit: int | None) -> list[int]:
    """Places of at most `limit` candidates of each class, in order; for the same labels always the same.

    Args:
        labels: Class of each candidate.
        limit: None for all.
    """
    if limit is None:
        return list(range(len(labels)))
    taken = Counter[int]()
    chosen = []
    for place in torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist():
        if taken[labels[place]] < limit:
            taken[labels[place]] += 1
            chosen.append(place)
    return sorted(chosen)
