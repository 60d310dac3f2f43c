"""A probe of tokens that is fitted to the labels of a few whole scenes, with its spread over which scenes those are.

Axes: N scenes, S side of a scene in pixels, T tokens, C channels, h w grid of the map, K classes and background.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from distill.data.annotations import CocoAnnotations
from distill.data.images import read_image
from distill.data.masks import decode_patch
from distill.evaluation.probes.accuracy import balanced_accuracy
from distill.evaluation.probes.linear import fit_linear
from distill.evaluation.probes.scores import Labelled, standardized
from distill.tasks.probes.base import Features, some_tokens
from distill.tasks.probes.pooling import token_classes
from distill.tasks.probes.windows import paint


@dataclass(frozen=True)
class Scenes:
    """Labelled scenes of one size.

    Attributes:
        pixels: uint8 RGB (N, 3, S, S).
        labels: Class of each pixel, the last is the background: uint8 (N, S, S).
        classes: K, the background among them.
    """

    pixels: Tensor
    labels: Tensor
    classes: int


class Spread(NamedTuple):
    """Balanced accuracies over draws of the labelled scenes."""

    mean: float
    sd: float | None  # of a single draw there is none


def read_scenes(images: Path, annotations: Path) -> Scenes:
    """Reads scenes of one size and their objects.

    Args:
        images: Folder of the images.
        annotations: Their COCO file.

    Raises:
        UserError: A file is missing or broken.
    """
    content = CocoAnnotations(annotations)
    background = len(content.class_names)
    pixels, labels = [], []
    for image in content.images:
        pixels.append(read_image(images / image["file_name"]))
        canvas = torch.full((image["height"], image["width"]), background, dtype=torch.uint8)
        for record in content.objects(image["id"]):
            paint(canvas, decode_patch(record["segmentation"], image["height"], image["width"]), record["label"])
        labels.append(canvas)
    return Scenes(torch.stack(pixels), torch.stack(labels), background + 1)


def scene_scores(
    features: Features, known: Scenes, scored: Scenes, counts: Sequence[int], draws: int = 8, batch_size: int = 32
) -> dict[int, Spread]:
    """Balanced accuracy of linear probes on single tokens, by the number of scenes whose labels they have.

    Of every scene, at most 8 tokens of each class are taken. A class that the drawn scenes do not show cannot be found.

    Args:
        features: What is probed; its last map counts.
        known: Scenes that the labels are drawn from; the draws are the same for all features.
        scored: Scenes that are scored, none of which is among `known`.
        counts: Numbers of scenes, none larger than `known` has.
        draws: Draws of each number; one where all scenes are taken.
        batch_size: Scenes in one pass.
    """
    train, scene = _tokens(features, known, batch_size)
    test, _ = _tokens(features, scored, batch_size)
    found = {}
    for count in counts:
        generator = torch.Generator().manual_seed(count)
        scores = []
        for _ in range(draws if count < len(known.pixels) else 1):
            chosen = torch.randperm(len(known.pixels), generator=generator)[:count]
            scores.append(_score(train[torch.isin(scene, chosen).nonzero()[:, 0]], test))
        found[count] = Spread(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None)
    return found


@torch.no_grad()
def _tokens(features: Features, scenes: Scenes, batch_size: int) -> tuple[Labelled, Tensor]:
    """Some tokens of all scenes, and the number of the scene that each is of."""
    found, labels, numbers = [], [], []
    for first in range(0, len(scenes.pixels), batch_size):
        part = slice(first, first + batch_size)
        maps = features(scenes.pixels[part].float() / 255)
        last = (maps if isinstance(maps, Tensor) else maps[-1]).float()
        grid = (last.shape[-2], last.shape[-1])
        classes = token_classes(scenes.labels[part], scenes.classes, grid)
        chosen = some_tokens(classes, scenes.classes)
        found.append(last.flatten(2).transpose(1, 2).flatten(0, 1)[chosen])
        labels.append(classes.flatten()[chosen])
        numbers.append(first + torch.div(chosen, grid[0] * grid[1], rounding_mode="floor"))
    return Labelled(torch.cat(found), torch.cat(labels)), torch.cat(numbers)


def _score(train: Labelled, test: Labelled) -> float:
    """Balanced accuracy of the classes of `test`, fitted to those that `train` shows."""
    train, test = standardized(train, test)
    shown, numbers = train.labels.unique(return_inverse=True)
    probe = fit_linear(train.features, numbers, len(shown))
    return balanced_accuracy(shown[probe.predict(test.features)], test.labels)
