"""Scores of frozen features: the balanced accuracy of simple classifiers on them.

Axes: N samples, C channels, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.errors import UserError
from distill.evaluation.probes.accuracy import balanced_accuracy
from distill.evaluation.probes.linear import fit_linear
from distill.evaluation.probes.neighbours import nearest_classes

_SMALLEST_STD = 1e-5  # of a channel, relative to its largest value; below, what varies is the rounding of float32


@dataclass(frozen=True)
class Labelled:
    """Features with their classes.

    Attributes:
        features: (N, C).
        labels: (N,) int64, each below K.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Labelled":
        """The samples of these numbers."""
        return Labelled(self.features[index], self.labels[index])


def standardized(train: Labelled, val: Labelled) -> tuple[Labelled, Labelled]:
    """Both with every channel of `train` at mean 0 and standard deviation 1; constant channels become 0.

    A probe then sees no difference between a student that learned raw targets and one that learned standardised ones.
    """
    reference = train.features.double()
    mean, std = reference.mean(dim=0), reference.std(dim=0, correction=0)
    scale = torch.where(std > _SMALLEST_STD * reference.abs().amax(dim=0), 1 / std, 0.0)
    first, second = (Labelled((part.features.double() - mean) * scale, part.labels) for part in (train, val))
    return first, second


def linear_score(train: Labelled, val: Labelled, classes: int) -> float:
    """Balanced accuracy of a linear probe on `val` that is fitted to `train`."""
    train, val = standardized(train, val)
    probe = fit_linear(train.features, train.labels, classes)
    return balanced_accuracy(probe.predict(val.features), val.labels)


def neighbour_score(train: Labelled, val: Labelled, classes: int) -> float:
    """Balanced accuracy of the nearest neighbours in `train` on `val`."""
    train, val = standardized(train, val)
    return balanced_accuracy(nearest_classes(train.features, train.labels, val.features, classes), val.labels)


def few_shot_score(train: Labelled, val: Labelled, classes: int, shots: int, draws: int, seed: int = 0) -> float:
    """`linear_score` with few labels: the mean over several draws of `shots` training samples of each class.

    Args:
        train: Samples to draw from.
        val: Samples to score.
        classes: K.
        shots: Samples of each class in a draw.
        draws: How many times to draw; the draws of a seed are always the same.
        seed: Of the draws.

    Raises:
        UserError: A class has fewer than `shots` samples.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = [
        linear_score(train[draw_by_class(train.labels, classes, shots, generator)], val, classes) for _ in range(draws)
    ]
    return sum(scores) / draws


def draw_by_class(labels: Tensor, classes: int, count: int, generator: torch.Generator) -> Tensor:
    """Numbers of `count` samples of each class, in random order within a class.

    Raises:
        UserError: A class has fewer.
    """
    chosen = []
    for label in range(classes):
        numbers = torch.nonzero(labels.cpu() == label)[:, 0]
        if len(numbers) < count:
            raise UserError(f"{count} samples of each class are asked for, but one has only {len(numbers)}")
        chosen.append(numbers[torch.randperm(len(numbers), generator=generator)[:count]])
    return torch.cat(chosen)
