"""Land-cover classifiers that look at the colour of one pixel at most: what a network has to be better than."""

import torch
from torch import Tensor

from distill.data.class_table import IGNORE
from distill.data.semantic import SemanticImages
from distill.evaluation.segmentation import PixelConfusion

BITS = 5  # of each channel's eight


def baselines(data: SemanticImages) -> dict[str, dict[str, float]]:
    """Scores of the classifiers that look at one pixel at most."""
    counts = colour_counts(data)
    totals = counts.sum(0)
    likelihood = counts / totals.clamp_min(1)
    # A colour that training never shows gets the most frequent class.
    seen = counts.sum(1) > 0
    tables = {
        "majority class": totals.argmax().expand(len(counts)),
        "colour histogram": torch.where(seen, counts.argmax(1), totals.argmax()),
        "the same, balanced": torch.where(seen, likelihood.argmax(1), totals.argmax()),
    }
    confusions = {name: PixelConfusion(data.class_names) for name in tables}
    views = data.dataset("test")
    for index in range(len(views)):
        sample = views[index]
        bins = colour_bins(sample["image"])
        for name, table in tables.items():
            confusions[name].update(table[bins], sample["label"])
    return {name: confusion.summary() for name, confusion in confusions.items()}


def colour_counts(data: SemanticImages) -> Tensor:
    """Training pixels (8^BITS, K) by colour bin and class."""
    classes = len(data.class_names)
    counts = torch.zeros(2 ** (3 * BITS) * classes, dtype=torch.int64)
    views = data.dataset("train")
    for index in range(len(views)):
        sample = views[index]
        labels, bins = sample["label"], colour_bins(sample["image"])
        known = labels != IGNORE
        counts += torch.bincount(bins[known] * classes + labels[known], minlength=len(counts))
    return counts.view(-1, classes)


def colour_bins(image: Tensor) -> Tensor:
    """The colour bin (H, W) of every pixel of an image (3, H, W) in [0, 1]."""
    red, green, blue = (image * 255).round().long() >> (8 - BITS)
    return (red << 2 * BITS) | (green << BITS) | blue
