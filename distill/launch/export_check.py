"""Runs an exported file in its own runtime beside the run that it comes from.

Axes: B batch, C channels, H W pixels, S side of a view.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.errors import UserError
from distill.evaluation.sliding_window import resize_logits
from distill.evaluation.units import counted
from distill.exported.facts import PLANES, ExportedFacts
from distill.exported.models import ExportedClasses, ExportedInstances
from distill.exported.session import Outputs, Session, open_session
from distill.exported.views import fitted
from distill.exporters.deepness import open_deepness
from distill.exporters.graph import ExportGraph
from distill.exporters.verify.images import CheckImage, Pixels, crop
from distill.exporters.verify.instances import SCORE, InstanceDifference, compare_instances
from distill.exporters.verify.maps import (
    PROBABILITY,
    FeatureDifference,
    LogitDifference,
    ProbabilityDifference,
    compare_features,
    compare_logits,
    compare_probabilities,
)
from distill.launch.predictors import InstancePredictor, Predictor, SemanticPredictor, StudentPredictor

Difference = InstanceDifference | LogitDifference | FeatureDifference | ProbabilityDifference


@dataclass(frozen=True)
class Check:
    """One image, seen by the file and by the run.

    Attributes:
        image: What it is.
        difference: How far their results lie apart.
    """

    image: str
    difference: Difference


def check_file(
    path: Path, reference: Predictor, graph: ExportGraph, images: Sequence[CheckImage], exact: bool = True
) -> list[Check]:
    """Compares a file with its run on images.

    Args:
        path: The file.
        reference: The run, in float32.
        graph: Of the run, in float32 on the CPU.
        images: See `distill.exporters.verify.images`.
        exact: Whether the runtime has to compute in float32; else in what it prefers on this processor.
    """
    session = open_session(path, exact=exact)
    if session.facts.kind == PLANES:
        session = _Decided(session, graph)
    return [Check(image.name, _difference(session, reference, image)) for image in images]


def check_planes(path: Path, graph: ExportGraph, images: Sequence[CheckImage]) -> list[Check]:
    """Compares the probabilities of a file of kind "planes" with those of its graph, where they make no instance.

    Args:
        path: The file.
        graph: Of the run, in float32 on the CPU.
        images: See `distill.exporters.verify.images`.
    """
    session, checks = open_session(path), []
    for image in images:
        view, shown = fitted(image.pixels, image.side)
        found = session.run(view, shown)["probabilities"]
        checks.append(Check(image.name, compare_probabilities(_probabilities(graph, view, shown), found)))
    return checks


def _probabilities(graph: ExportGraph, view: NDArray[np.float32], shown: tuple[int, int]) -> NDArray[np.float32]:
    """What a graph of kind "planes" computes, (1, K, H, W)."""
    with torch.no_grad():
        (planes,) = graph(torch.from_numpy(view), torch.tensor(shown))
    values: NDArray[np.float32] = planes.numpy()
    return values


class _Decided:
    """A file of kind "planes" in which no pixel is on the other side of the threshold because of rounding.

    One pixel more moves a box, makes a small region large enough, or joins two.

    Args:
        session: The file.
        graph: Of its run, which decides about pixels whose probability differs by no more than is allowed.
    """

    facts: ExportedFacts

    def __init__(self, session: Session, graph: ExportGraph) -> None:
        self.facts, self._session, self._graph = session.facts, session, graph

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        """See `Session`."""
        found = self._session.run(image, size)["probabilities"]
        expected, threshold = _probabilities(self._graph, image, size), self.facts.mask_threshold
        rounded = ((found > threshold) != (expected > threshold)) & (np.abs(found - expected) <= PROBABILITY)
        return {"probabilities": np.where(rounded, expected, found)}


@contextmanager
def score_threshold_with_instances(reference: InstancePredictor, images: Sequence[CheckImage]) -> Iterator[None]:
    """Inside, the run's score threshold is so low that it finds an instance on half of the images.

    It stays 0 where it finds none even then.
    """
    head, side = reference.network.head, reference.size
    own, head.score_threshold = head.score_threshold, 0.0
    try:
        best = []
        for image in images:
            reference.size = image.side
            best.append(float(reference.tile_instances([image.pixels])[0].scores.max(initial=0)))
        # Twice the tolerance below a score, so that rounding does not decide whether it counts.
        head.score_threshold = max(0.0, float(np.median(best)) - 2 * SCORE)
        yield
    finally:
        head.score_threshold, reference.size = own, side


def check_deepness(path: Path, reference: SemanticPredictor, photographs: Sequence[Pixels]) -> list[Check]:
    """Compares the probabilities of a file of one size with those of the run, on parts of images.

    Args:
        path: The file, which needs no facts.
        reference: The run, in float32; its `zoom` and `window` are left to the program that cuts the tiles.
        photographs: Real images of any sizes.
    """
    side, probabilities = open_deepness(path)
    checks = []
    for number, pixels in enumerate(photographs, 1):
        view = crop(pixels, side, side)[None].astype(np.float32) / np.float32(255)
        with torch.no_grad():
            logits = resize_logits(reference.network(torch.from_numpy(view)), (side, side))
        difference = compare_logits(logits.softmax(1)[0].numpy(), probabilities(view)[0])
        checks.append(Check(f"{side} px, image {number}", difference))
    return checks


def require_equal(checks: Sequence[Check], name: str) -> None:
    """Checks that nothing differs by more than is allowed.

    Raises:
        UserError: It does; the message names the image and the first output that differs.
    """
    for check in checks:
        if failed := check.difference.failed:
            raise UserError(
                f"{name} does not do what the run does, and is not kept: on the image of {check.image}, {failed}"
            )


def fullest(checks: Sequence[Check], limit: int | None) -> str | None:
    """A note if no image had as many instances as the file can find; None if one had, or there is no limit."""
    counts = [check.difference.matched for check in checks if isinstance(check.difference, InstanceDifference)]
    if limit is None or not counts or max(counts) >= limit:
        return None
    return f"no image of the check had more than {counted(max(counts), 'instance')} of the {limit} that fit into it"


def _difference(session: Session, reference: Predictor, image: CheckImage) -> Difference:
    facts = session.facts
    if isinstance(reference, StudentPredictor):
        missing = ((0, -side % facts.stride) for side in image.pixels.shape[1:])
        pixels = np.pad(image.pixels, ((0, 0), *missing))  # of 8 bits, to which the run would round other padding
        found = session.run(pixels[None].astype(np.float32) / np.float32(255), (pixels.shape[1], pixels.shape[2]))
        expected = reference.predict(torch.from_numpy(pixels))
        names = dict(zip(found, (values.numpy() for values in expected), strict=True))
        return compare_features(names, {name: values[0] for name, values in found.items()})
    if isinstance(reference, SemanticPredictor):
        return compare_logits(
            reference.tile_logits([image.pixels])[0], ExportedClasses(session).tile_logits([image.pixels])[0]
        )
    assert isinstance(reference, InstancePredictor)
    reference.size = image.side
    return compare_instances(
        reference.tile_instances([image.pixels])[0],
        ExportedInstances(session, image.side).tile_instances([image.pixels])[0],
        # A region's score is the mean of its pixels, of which each is above the threshold of masks.
        facts.mask_threshold if facts.kind == PLANES else facts.score_threshold,
        facts.max_detections,
    )
