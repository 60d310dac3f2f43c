"""The distillation step: clean view to the teacher, corrupted view to the student, one loss on the aligned map.

A reconstruction of RS4D's unpublished trainer (arXiv 2606.25324). What its logs and code make certain (SAM's neck as
target, L1, the student's last normalised map without a projection) is the default; everything else is a recipe key.

Axes: B batch, C channels, H W grid, N tokens.
"""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from distill.contracts import TeacherBase
from distill.errors import UserError, unknown_name
from distill.layers import Normalize
from distill.phases import tracked
from distill.plain_student import as_student
from distill.seeding import seed_step
from distill.targets.teacher_view import teacher_view
from distill.tasks.adapter import Adapter
from distill.tasks.baseline import TargetStatistics
from distill.tasks.corruption import Corruption, CorruptionSettings, from_patches, to_patches
from distill.tasks.losses.features import LossSettings, combine, cosine, l1
from distill.training.gradient_check import FiniteGradients
from distill.training.optim import OptimSettings, build_optimizer, total_steps
from distill.training.precision import require_precision
from distill.weights import misfit

_STATISTICS_IMAGES = 256  # views from which the statistics of batch norms are estimated at the end


class DistillationModule(FiniteGradients):
    """Trains a student to reproduce one named feature map of a frozen teacher.

    Args:
        teacher: A `distill.contracts.Teacher`. It is no submodule: it is absent from `state_dict`, from checkpoints
            and from the optimizer.
        student: A `distill.contracts.Student`; its last map is trained.
        target: Name of the teacher's feature map, for example "neck" of SAM or "embedding" of a plain ViT.
        corruption: Noise and masking on the student's input.
        loss: Terms and their weights.
        optim: Optimizer and schedule.
        calibration_images: Training images from which the target's statistics and the image-independent baseline are
            taken before the first step.
        stuck_ratio: A validation L1 above this fraction of the baseline's counts as stuck on the plateau. A map that
            ignores the image has 1.00 in expectation.
        stuck_patience: Validations in a row after which a stuck run is warned about.
    """

    monitor = ("val/l1", "min")
    # Contracts, not nn.Modules, to the type checker: it takes every attribute of an nn.Module for a Tensor.
    teacher: Any
    student: Any

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        target: str = "neck",
        corruption: CorruptionSettings | None = None,
        loss: LossSettings | None = None,
        optim: OptimSettings | None = None,
        calibration_images: int = 64,
        stuck_ratio: float = 0.98,
        stuck_patience: int = 3,
    ) -> None:
        super().__init__()
        corruption = corruption or CorruptionSettings()
        if calibration_images < 1:
            raise UserError(f"model.calibration_images is {calibration_images}; at least 1 image is needed")
        if not isinstance(teacher, TeacherBase):
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, which is no TeacherBase; derive the class from "
                "distill.contracts.TeacherBase, or from teachers.frozen.FrozenTeacher"
            )
        # Kept out of nn.Module's registry on purpose; see `teacher` in Args.
        self.__dict__["teacher"] = teacher
        self.student = as_student(student)
        channels: dict[str, int] = self.teacher.channels
        if target not in channels:
            raise unknown_name("teacher feature in model.target", target, channels)
        if target not in self.teacher.reduction:
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, whose reduction has no entry for {target!r}; add the "
                "stride of this feature against the image, in pixels"
            )
        if corruption.level == "token" and self.student.token_channels is None:
            raise UserError(
                f"model.corruption.level is 'token', but {type(student).__name__} exposes no tokens; "
                "set model.corruption.level to 'image'"
            )
        self.target = target
        self.loss_settings = loss or LossSettings()
        self.optim_settings = optim or OptimSettings()
        self.calibration_images = calibration_images
        self.stuck_ratio = stuck_ratio
        self.stuck_patience = stuck_patience
        token_channels = self.student.token_channels if corruption.level == "token" else 3 * corruption.patch_size**2
        self.corruption = Corruption(token_channels, corruption)
        self.adapter = Adapter(self.student.feature_info.channels()[-1], channels[target])
        self.normalize = Normalize.of(student)
        self.statistics: TargetStatistics | None = None
        self._stuck_validations = 0
        self._statistics_step = -1  # at which batch norms were estimated
        self._training_statistics: dict[str, Tensor] = {}  # of the batch norms, before

    def estimate(self, images: Tensor, corrupted: bool = False) -> tuple[Tensor, Tensor | None]:
        """The student's last map for RGB images in [0, 1].

        Args:
            images: (B, 3, H, W).
            corrupted: Whether to corrupt the student's input.

        Returns:
            The unaligned map (B, C, h, w), and the corrupted tokens (B, N) or None.
        """
        images = self.normalize(images)
        if not corrupted:
            return self.student(images)[-1], None
        settings = self.corruption.settings
        if settings.level == "image":
            height, width = images.shape[-2:]
            patches, touched = self.corruption(to_patches(images, settings.patch_size))
            maps = self.student(from_patches(patches, settings.patch_size, (height, width)))
        else:
            maps, touched = self.student.forward_corrupted(images, self.corruption)
        return maps[-1], touched

    def teacher_map(self, images: Tensor) -> Tensor:
        """The target (B, C, H, W) for clean RGB images in [0, 1], standardised if the recipe says so."""
        features = self._raw_teacher_map(images)
        if not self.loss_settings.standardize:
            return features
        assert self.statistics is not None
        return (features - self.statistics.mean[:, None, None]) / self.statistics.std[:, None, None]

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is handed on, and what its last map is.

        A student that was trained on standardised maps is returned as a copy that emits the teacher's scale.

        Returns:
            The student, and metadata: "last_map" in words. Where the student has no weights to fold the teacher's mean
            and standard deviation into, they are "output_mean" and "output_std", C numbers each.
        """
        student, kind = self.student, f"{type(self.teacher).__name__}'s {self.target}"
        if not isinstance(self.adapter.projection, nn.Identity):
            return student, {"last_map": f"features from which an adapter, now dropped, made {kind}"}
        if not self.loss_settings.standardize or self.statistics is None:
            return student, {"last_map": kind}
        mean, std = self.statistics.mean, self.statistics.std
        folded = copy.deepcopy(student)
        if folded.fold_output(std, mean):
            return folded, {"last_map": kind}
        said = f"{kind}, standardised: {kind} is map * output_std + output_mean, by channel"
        return student, {"last_map": said, "output_mean": mean.tolist(), "output_std": std.tolist()}

    def setup(self, stage: str) -> None:
        """Checks the precision.

        Raises:
            UserError: The trainer would cast all weights.
        """
        require_precision(self.trainer, f"the teacher, {type(self.teacher).__name__},")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes the step's randomness repeatable."""
        seed_step(self, batch_idx)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W), RGB in [0, 1]."""
        images = batch["image"]
        target = self.teacher_map(images)
        features, corrupted = self.estimate(images, corrupted=True)
        grid = (target.shape[-2], target.shape[-1])
        weight = None if corrupted is None else _to_grid(corrupted, images, grid)
        estimate = self.adapter(features, grid)
        values = combine(self.loss_settings, estimate, target, weight)
        with torch.no_grad():
            plain = l1(estimate.float(), target.float()).mean()
            self.corruption.observe(plain / self._baseline_l1(target))
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=len(images))
        self.log("corruption_strength", self.corruption.factor(), batch_size=len(images))
        return values["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Clean-input L1 and cosine, and the image-independent baseline's L1 on the same images."""
        images = batch["image"]
        target = self.teacher_map(images).float()
        features, _ = self.estimate(images)
        estimate = self.adapter(features, (target.shape[-2], target.shape[-1])).float()
        values = {
            "val/l1": l1(estimate, target).mean(),
            "val/cosine": 1 - cosine(estimate, target).mean(),
            "val/trivial_l1": self._baseline_l1(target),
        }
        self.log_dict(values, batch_size=len(images), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Logs how far below the image-independent baseline the student is, and warns when it stays there."""
        metrics = self.trainer.callback_metrics
        ratio = metrics["val/l1"] / metrics["val/trivial_l1"]
        self.log("val/l1_ratio", ratio, prog_bar=True, sync_dist=True)
        if self.trainer.sanity_checking or self.trainer.state.fn != "fit":
            return
        warming_up = self.trainer.global_step <= self.optim_settings.warmup_steps
        stuck = not warming_up and float(ratio) > self.stuck_ratio
        self._stuck_validations = self._stuck_validations + 1 if stuck else 0
        if self._stuck_validations == self.stuck_patience:
            warnings.warn(
                f"the student has been at {float(ratio):.2f} of the image-independent baseline's L1 for "
                f"{self.stuck_patience} validations: it predicts positions, not images. Try model.loss.standardize "
                "true, a cosine term in model.loss.terms, or a longer warm-up",
                stacklevel=1,
            )

    def on_fit_start(self) -> None:
        """Takes the target's statistics once, and starts the student's output at the target's scale."""
        self._place_teacher()
        if self.statistics is not None:
            self.statistics = self.statistics.to(self.device)
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        maps = (self._raw_teacher_map(batch["image"].to(self.device)) for batch in loader)
        what = f"calibrating: the teacher sees {self.calibration_images} training images"
        counted = tracked(what, maps, self.calibration_images)
        raw = self.trainer.strategy.broadcast(TargetStatistics.of(counted, self.calibration_images))
        self.statistics = raw.to(self.device)
        if not isinstance(self.adapter.projection, nn.Identity):
            return
        if self.student.rescale_output(1.0 if self.loss_settings.standardize else raw.rms()):
            return
        if self.loss_settings.standardize:
            self._standardize_warm_start(next(iter(loader))["image"].to(self.device))

    def on_train_end(self) -> None:
        """Leaves the student with statistics of clean images; averaged weights are in place by now."""
        super().on_train_end()
        self._estimate_statistics()

    def on_validation_epoch_start(self) -> None:
        """The same before the last validation."""
        if self.trainer.state.fn == "fit" and self.trainer.global_step >= total_steps(self.trainer):
            self._estimate_statistics()

    def on_validation_start(self) -> None:
        """Moves teacher and statistics to the device when validation runs on its own."""
        self._place_teacher()
        if self.statistics is None:
            raise UserError("validation needs a trained checkpoint; pass --ckpt_path, or run `distill fit` first")
        self.statistics = self.statistics.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the statistics, and which teacher they belong to."""
        super().on_save_checkpoint(checkpoint)
        if self.statistics is not None:
            checkpoint["target_statistics"] = {k: v.cpu() for k, v in vars(self.statistics).items()}
            checkpoint["teacher_digest"] = self.teacher.digest
        if self._training_statistics:
            checkpoint["training_statistics"] = self._training_statistics

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the statistics.

        Raises:
            UserError: The checkpoint was trained against another teacher, by another task, or with another student.
        """
        if "target_statistics" not in checkpoint:
            raise UserError("the checkpoint is not one of a distillation run; pass the run's own checkpoints/last.ckpt")
        if checkpoint["teacher_digest"] != self.teacher.digest:
            raise UserError(
                f"the checkpoint was distilled from teacher {checkpoint['teacher_digest']}, but model.teacher is "
                f"{self.teacher.digest}; resume with the same teacher weights"
            )
        if problems := misfit(self, checkpoint["state_dict"]):
            raise UserError(
                f"the checkpoint does not fit the recipe's student: {problems}; use the recipe it was trained with"
            )
        self.statistics = TargetStatistics(**checkpoint["target_statistics"])
        if self.trainer.state.fn == "fit":  # it goes on with the batch norms of training
            checkpoint["state_dict"] |= checkpoint.get("training_statistics", {})

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine."""
        return build_optimizer(self, total_steps(self.trainer), self.optim_settings)

    def _raw_teacher_map(self, images: Tensor) -> Tensor:
        """The teacher's map on a grid that spans the same extent as the student's."""
        view = teacher_view(images, self.student.feature_info.reduction()[-1], self.teacher.reduction[self.target])
        features: Tensor = self.teacher(view)[self.target]
        return features

    def _baseline_l1(self, target: Tensor) -> Tensor:
        assert self.statistics is not None
        statistics = self.statistics.standardized() if self.loss_settings.standardize else self.statistics
        return statistics.baseline_l1(target)

    @torch.no_grad()
    def _standardize_warm_start(self, images: Tensor) -> None:
        """Standardises the output of a loaded student that emits the teacher's scale, as exported ones do."""
        assert self.statistics is not None
        mean, std = self.statistics.mean, self.statistics.std
        training = self.student.training
        self.student.eval()
        target = self.teacher_map(images).float()
        found = self.adapter(self.estimate(images)[0], (target.shape[-2], target.shape[-1])).float()
        self.student.train(training)
        standardized = (found - mean[:, None, None]) / std[:, None, None]
        closer = bool(l1(standardized, target).mean() < l1(found, target).mean())
        if self.trainer.strategy.broadcast(closer):
            self.student.fold_output(1 / std, -mean / std)
            self._say("warm start: the student's last map had the teacher's scale and is standardised for this run")

    def _estimate_statistics(self) -> None:
        """Estimates the running statistics of the student's batch norms on clean training views.

        Training leaves them with those of corrupted views, and of other weights than averaged ones.
        """
        norms = {
            f"student.{name}.{key}": buffer
            for name, part in self.student.named_modules()
            if isinstance(part, _BatchNorm)
            for key, buffer in part.named_buffers(recurse=False)
        }
        if not norms or self._statistics_step == self.trainer.global_step:
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        seen = 0

        def views() -> Iterator[Tensor]:
            nonlocal seen
            for batch in loader:
                yield self.normalize(batch["image"].to(self.device))
                seen += len(batch["image"])
                if seen >= _STATISTICS_IMAGES:
                    return

        self._say(f"batch norms: estimating statistics on clean training views, {_STATISTICS_IMAGES} at most")
        self._training_statistics = {name: buffer.clone() for name, buffer in norms.items()}
        update_bn(views(), self.student)
        for buffer in norms.values():
            buffer.copy_(self.trainer.strategy.broadcast(buffer))
        self._statistics_step = self.trainer.global_step
        self._say(f"batch norms: statistics estimated again on {seen} clean training views")

    def _say(self, line: str) -> None:
        if self.trainer.is_global_zero:
            print(line)

    def _place_teacher(self) -> None:
        self.teacher.to(self.device)


def _to_grid(corrupted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Spreads the token map (B, N) over the target's grid (B, H, W), as fractions."""
    batch, count = corrupted.shape
    height, width = images.shape[-2:]
    rows = round((count * height / width) ** 0.5)
    token_map = corrupted.view(batch, 1, rows, count // rows).float()
    return nn.functional.interpolate(token_map, grid, mode="area")[:, 0]
