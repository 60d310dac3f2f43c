"""Student, neck and head trained on labelled images, and scored by COCO average precision.

Axes: B batch, H W pixels.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from distill.contracts import HeadBase, Prediction
from distill.evaluation.coco import KINDS, CocoEvaluator
from distill.evaluation.instances import InstanceEvaluation
from distill.tasks.supervised import HeadFactory, SupervisedModule
from distill.tasks.tiled_images import TiledImages
from distill.training.optim import OptimSettings

T = TypeVar("T")


class FineTuningModule(SupervisedModule):
    """Trains a head on a student's feature maps; the student is trained, too, unless its own arguments freeze it.

    Args:
        student: A `distill.contracts.StudentBase`, with or without distilled weights, or a plain model with a
            `feature_info`.
        head: Builds a `distill.contracts.HeadBase` from the student's `feature_info` and the data's class names.
        optim: Optimizer and schedule.
        max_detections: Detections of each class in an image that average precision looks at. The head must find as
            many: its own limit, over all classes, is a key of the head.
    """

    name = "instances"
    monitor = ("val/mask/AP", "max")
    head_contract = HeadBase

    def __init__(
        self,
        student: nn.Module,
        head: HeadFactory,
        optim: OptimSettings | None = None,
        max_detections: int = 100,
    ) -> None:
        super().__init__(student, head, optim or OptimSettings(lr=1e-4))
        self.max_detections = max_detections
        self._evaluator: CocoEvaluator | None = None  # of the evaluation that goes on
        self._tiled: TiledImages | None = None  # the same, where the data cuts images into tiles

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W) in [0, 1] and `batch["targets"]`."""
        assert isinstance(self.head, HeadBase)
        losses = self.head.loss(self.features(batch["image"]), batch["targets"])
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(batch["image"]))
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch["image"]))
        return total

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Prediction]:
        """Instances of `batch["image"]` (B, 3, H, W) in [0, 1], in pixels of the image files.

        Args:
            batch: Of `batch["targets"]` only `image_id`, `size` and `original_size` are read.
            batch_idx: Not used.
        """
        assert isinstance(self.head, HeadBase)
        return self.head.predict(self.features(batch["image"]), batch["targets"])

    def on_validation_epoch_start(self) -> None:
        """Starts an evaluation on the validation split."""
        self._start_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Starts an evaluation on the test split."""
        self._start_evaluation("test")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collects predictions."""
        self._collect(batch, batch_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collects predictions."""
        self._collect(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs box and mask AP of the validation split."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """Logs box, mask and boundary AP of the test split."""
        self._score("test")

    def _start_evaluation(self, split: str) -> None:
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        kinds = KINDS if split == "test" else ("box", "mask")  # training need not wait for boundaries
        truth = datamodule.ground_truth(split)
        self._evaluator = CocoEvaluator(truth, self.class_names, self.max_detections, kinds)
        self._tiled = None

    def _collect(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert self._evaluator is not None
        found = self.predict_step(batch, batch_idx)
        if "tiles" in batch:
            if self._tiled is None:
                datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
                self._tiled = TiledImages(datamodule.tile_plan, self._evaluator.sizes())
            found = self._tiled.add(found, batch["tiles"])
        self._evaluator.update(found)

    def _score(self, split: str) -> None:
        evaluator, self._evaluator = self._evaluator, None
        tiled, self._tiled = self._tiled, None
        assert evaluator is not None
        evaluator.records = [record for part in self._of_all_processes(evaluator.records) for record in part]
        if tiled is not None:
            evaluator.update(tiled.rest(self._of_all_processes(tiled.found)))
        self.evaluation = InstanceEvaluation(evaluator, evaluator.score())
        self.log_scores(split, ("box/AP", "mask/AP"))

    def _of_all_processes(self, part: T) -> list[T]:
        if self.trainer.world_size == 1:
            return [part]
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, part)
        return parts
