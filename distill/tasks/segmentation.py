"""Student and decoder trained to give every pixel its class, and scored by a confusion matrix.

Axes: B batch, K classes, H W pixels of the labels, h w of the network's input.
"""

from typing import Any

import torch
from torch import Tensor, nn

from distill.contracts import DecoderBase
from distill.errors import UserError
from distill.evaluation.segmentation import PixelConfusion
from distill.evaluation.sliding_window import predict_by_windows, resize_logits
from distill.tasks.losses.segmentation import SegmentationLossSettings, combine
from distill.tasks.losses.soft_targets import SoftTargetSettings, divergence
from distill.tasks.supervised import HeadFactory, SupervisedModule
from distill.training.optim import OptimSettings


class SegmentationModule(SupervisedModule):
    """Trains a decoder on a student's feature maps; the student is trained, too, unless its own arguments freeze it.

    Args:
        student: A `distill.contracts.StudentBase`, with or without distilled weights, or a plain model with a
            `feature_info`.
        head: Builds a `distill.contracts.DecoderBase` from the student's `feature_info` and the data's class names,
            such as `heads.LALEDecoder` or `heads.SegHead`.
        optim: Optimizer and schedule.
        loss: Loss terms and their weights.
        window: Side of the windows that evaluation predicts by, in pixels of the network's input; by default images
            are predicted whole. For images larger than the training views.
        stride: Pixels from one window to the next; by default half a window.
        teacher: A `distill.contracts.TeacherBase` with the feature "logits" and with `class_names`, such as
            `teachers.Segmenter`. It gets the student's view, and the student learns its probabilities, too.
        soft_targets: Weight and temperature of the teacher's probabilities.

    Raises:
        UserError: A window or stride below 1, a stride without a window, or one that leaves gaps; a teacher without
            logits; no loss term, and no teacher either.
    """

    name = "segmentation"
    monitor = ("val/mIoU", "max")
    training_only = ("loss", "teacher", "soft_targets")
    head_contract = DecoderBase
    class_weights: Tensor

    def __init__(
        self,
        student: nn.Module,
        head: HeadFactory,
        optim: OptimSettings | None = None,
        loss: SegmentationLossSettings | None = None,
        window: int | None = None,
        stride: int | None = None,
        teacher: nn.Module | None = None,
        soft_targets: SoftTargetSettings | None = None,
    ) -> None:
        super().__init__(student, head, optim or OptimSettings(lr=1e-3), teacher)
        if window is None and stride is not None:
            raise UserError(f"model.stride is {stride}, but model.window is null; give the side of the windows, too")
        if window is not None and window < 1:
            raise UserError(f"model.window is {window}; it must be 1 or more, or null")
        if window is not None and stride is not None and not 1 <= stride <= window:
            raise UserError(f"model.stride is {stride}; it must lie between 1 and model.window, {window}")
        self.loss_settings = loss or SegmentationLossSettings()
        self.soft_target_settings = soft_targets or SoftTargetSettings()
        if self.teacher is None:
            self.loss_settings.require_a_term()
        elif "logits" not in self.teacher.channels:
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, which gives {', '.join(self.teacher.channels)} and no "
                "logits; use teachers.Segmenter, or distil features with distill.DistillationModule"
            )
        self.window = window
        self.stride = stride
        self._confusion = PixelConfusion([])  # of the evaluation that goes on

    def build(self, class_names: list[str]) -> None:
        """Builds the decoder for these classes.

        Raises:
            UserError: The loss weighs another number of classes, the teacher knows other classes, or the decoder
                refuses its arguments.
        """
        self.loss_settings.require_classes(class_names)
        # On the device once, and not among the weights.
        weights = self.loss_settings.weights_of(torch.empty(1, len(class_names), device=self.device))
        self.register_buffer("class_weights", weights, persistent=False)
        if self.teacher is not None and list(self.teacher.class_names) != list(class_names):
            raise UserError(
                f"model.teacher was trained for classes {list(self.teacher.class_names)}, but the data has "
                f"{class_names}; soft targets need the same names in the same order, so declare data.classes "
                "as the teacher's"
            )
        super().build(class_names)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, ., .) of RGB images (B, 3, h, w) in [0, 1], at the decoder's resolution."""
        assert isinstance(self.head, DecoderBase)
        logits: Tensor = self.head(self.features(images))
        return logits

    def predict_labels(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Classes (B, H, W) of RGB images (B, 3, h, w) in [0, 1], at the `size` (H, W) wanted."""
        return self.predict_logits(images, size).argmax(1)

    def predict_logits(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W), float32, of RGB images (B, 3, h, w) in [0, 1], at the `size` (H, W) wanted."""
        if self.window is None:
            logits = self(images)
        else:
            logits = predict_by_windows(self, images, self.window, self.stride or max(1, self.window // 2))
        return resize_logits(logits, size)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Classes (B, H, W), int64, of `batch["image"]` (B, 3, h, w) in [0, 1].

        Args:
            batch: H and W are those of `batch["label"]` (B, H, W), or of the images where there are no labels. A list,
                as the validation data gives it, holds such a batch for each size of images.
            batch_idx: Not used.

        Returns:
            The classes; of a list, a list of them.
        """
        if isinstance(batch, list):
            return [self.predict_step(part, batch_idx) for part in batch]
        height, width = batch.get("label", batch["image"]).shape[-2:]
        return self.predict_labels(batch["image"], (height, width))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W) in [0, 1] and `batch["label"]` (B, H, W)."""
        images, labels = batch["image"], batch["label"]
        size = (labels.shape[-2], labels.shape[-1])
        # The teacher first, while the student holds no activations.
        target = None if self.teacher is None else resize_logits(self.teacher(images)["logits"], size)
        logits = resize_logits(self(images), size)
        losses = combine(self.loss_settings, logits, labels, self.class_weights)
        total = losses.pop("loss")
        if target is not None:
            settings = self.soft_target_settings
            losses["soft_targets"] = divergence(logits, target, settings.temperature)
            total = total + settings.weight * losses["soft_targets"]
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(images))
        self.log("train/loss", total, prog_bar=True, batch_size=len(images))
        return total

    def on_validation_epoch_start(self) -> None:
        """Starts counting on the validation split."""
        self._confusion = PixelConfusion(self.class_names)

    def on_test_epoch_start(self) -> None:
        """Starts counting on the test split."""
        self._confusion = PixelConfusion(self.class_names)

    def validation_step(self, batch: list[dict[str, Tensor]], batch_idx: int) -> None:
        """Counts pixels."""
        self._count(batch, batch_idx)

    def test_step(self, batch: list[dict[str, Tensor]], batch_idx: int) -> None:
        """Counts pixels."""
        self._count(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs mIoU, macro F1 and the scores of every class."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """Logs mIoU, macro F1 and the scores of every class."""
        self._score("test")

    def _count(self, batch: list[dict[str, Tensor]], batch_idx: int) -> None:
        for part in batch:
            self._confusion.update(self.predict_step(part, batch_idx), part["label"])

    def _score(self, split: str) -> None:
        if self.trainer.world_size > 1:
            # Lightning repeats a few images so that all processes have equally many; those count twice.
            self._confusion.counts = self._summed(self._confusion.counts)
            self._confusion.images = self._summed(self._confusion.images)
        self.evaluation = self._confusion
        self.log_scores(split, ("mIoU", "macro_F1"))

    def _summed(self, counts: Tensor) -> Tensor:
        """The sum over all processes."""
        counts = counts.to(self.device)
        torch.distributed.all_reduce(counts)
        return counts
