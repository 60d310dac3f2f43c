"""Scores of a run or an exported file on the run's validation images, for comparison with each other.

Both are given the same images one by one, as `distill predict` gives them tiles, and are scored as `distill validate`
scores.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from distill.contracts import Prediction
from distill.data.coco import CocoInstances
from distill.data.semantic import SemanticImages
from distill.errors import UserError
from distill.evaluation.coco import CocoEvaluator
from distill.evaluation.segmentation import PixelConfusion
from distill.evaluation.units import counted
from distill.instance_masks import InstanceMasks
from distill.launch.recipe_data import data_module
from distill.launch.stored_run import StoredRun
from distill.phases import Advance, phase
from distill.scene.detections import ClassModel, InstanceModel, Model, TileInstances
from distill.tasks.tiled_images import TiledImages

MOST_LOST = 1.0  # points, by int8
MOST_DIFFERENT = 0.05  # points, by another runtime in float32
_KINDS = ("box", "mask")


@dataclass(frozen=True)
class Change:
    """How a score of a file differs from that of what it was made from.

    Attributes:
        metric: "mask/AP", "box/AP" or "mIoU".
        before: The score, in [0, 1].
        after: That of the file.
    """

    metric: str
    before: float
    after: float

    @property
    def points(self) -> float:
        """The difference in points, hundredths; below zero for a loss."""
        return 100 * (self.after - self.before)

    def __str__(self) -> str:
        """For example "mask/AP 41.2 instead of 41.5 (-0.3 points)"."""
        return f"{self.metric} {100 * self.after:.2f} instead of {100 * self.before:.2f} ({self.points:+.2f} points)"


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[Change]:
    """The difference of each score that both have a value of."""
    known = [name for name in before if before[name] == before[name] and after[name] == after[name]]
    return [Change(name, before[name], after[name]) for name in known]


def require_little_loss(found: list[Change], name: str) -> None:
    """Refuses a file in int8 that is worse by more than a point.

    Raises:
        UserError: It is.
    """
    if lost := [change for change in found if change.points < -MOST_LOST]:
        raise UserError(
            f"{name} in int8 loses more than {MOST_LOST:g} point and is not kept: {lost[0]}; give --allow-loss to keep "
            "it, or export without --int8"
        )


def require_equal_scores(found: list[Change], name: str) -> None:
    """Refuses a file in float32 that scores otherwise than the run.

    Raises:
        UserError: It does.
    """
    if other := [change for change in found if abs(change.points) > MOST_DIFFERENT]:
        raise UserError(f"{name} does not score as the run does, and is not kept: {other[0]}")


def validation_scores(model: Model, run: StoredRun, name: str) -> dict[str, float]:
    """`box/AP` and `mask/AP`, or `mIoU`, on all validation images of a run.

    Args:
        model: The run (`distill.load`) or a file (`open_model`).
        run: Whose images.
        name: Of the model, for the progress.

    Raises:
        UserError: The images or their labels cannot be read, or are of another task.
    """
    data = data_module(str(run.folder.path))
    images = data.dataset("val")
    with phase(f"scoring {name} on {counted(len(images), 'validation image')}", len(images)) as advance:
        if isinstance(model, InstanceModel) and isinstance(data, CocoInstances):
            found = _of_instances(model, run, data, advance)
        elif isinstance(model, ClassModel) and isinstance(data, SemanticImages):
            found = _of_classes(model, data, advance)
        else:
            raise UserError(f"the data of {run.folder} has no labels that {name} can be scored on")
    return found


def _of_instances(model: InstanceModel, run: StoredRun, data: CocoInstances, advance: Advance) -> dict[str, float]:
    limit = (run.recipe["model"].get("init_args") or {}).get("max_detections") or 100
    evaluator = CocoEvaluator(data.ground_truth("val"), data.class_names, limit, _KINDS)
    views, tiled = data.dataset("val"), None if data.tile is None else TiledImages(data.tile_plan, evaluator.sizes())
    for index, pixels in _contents(views, advance):
        image_id, size = views.images[index]["id"], (pixels.shape[-2], pixels.shape[-1])
        if tiled is None:
            evaluator.update([_prediction(model, pixels, image_id)])
            continue
        for tile in data.tile_plan(*size):
            cut = pixels[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            evaluator.update(tiled.add([_prediction(model, cut, image_id)], [tile]))
    scores = evaluator.compute()
    return {f"{kind}/AP": scores[f"{kind}/AP"] for kind in _KINDS}


def _of_classes(model: ClassModel, data: SemanticImages, advance: Advance) -> dict[str, float]:
    confusion = PixelConfusion(data.class_names)
    for _, (pixels, labels) in _contents(data.dataset("val"), advance):
        (logits,) = model.tile_logits([pixels.numpy()])
        confusion.update(torch.from_numpy(logits.argmax(0))[None], labels[None])
    return {"mIoU": confusion.summary()["mIoU"]}


def _contents(views: Any, advance: Advance) -> Iterator[tuple[int, Any]]:
    for index in range(len(views)):
        yield index, views.broken.read(index, views.read)[1]
        advance(1)


def _prediction(model: InstanceModel, pixels: torch.Tensor, image_id: int) -> Prediction:
    found: TileInstances = model.tile_instances([pixels.contiguous().numpy()])[0]
    return Prediction(
        image_id,
        torch.from_numpy(found.boxes),
        torch.from_numpy(found.scores),
        torch.from_numpy(found.labels),
        InstanceMasks.from_patches(found.masks, (pixels.shape[-2], pixels.shape[-1])),
    )
