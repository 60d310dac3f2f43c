"""The distillation step: clean view to the teacher, corrupted view to the student, one loss on the aligned map.

A reconstruction of RS4D's unpublished trainer (arXiv 2606.25324). What its logs and code make certain (SAM's neck as
target, L1, the student's last normalised map without a projection) is the default; everything else is a recipe key.

Axes: B batch, C channels, H W grid, N tokens.
"""

import copy
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.phases import tracked
from distill.targets.live import LiveTargets
from distill.tasks.adapter import Adapter
from distill.tasks.base import TaskBase
from distill.tasks.baseline import TargetStatistics
from distill.tasks.corruption import Corruption, CorruptionSettings, from_patches, to_patches
from distill.tasks.losses.features import LossSettings, combine, cosine, l1, position_losses
from distill.training.batch_norm import estimate_again, running_statistics
from distill.training.optim import OptimSettings, total_steps

_STATISTICS_IMAGES = 256  # views from which the statistics of batch norms are estimated at the end


class DistillationModule(TaskBase):
    """Trains a student to reproduce one named feature map of a frozen teacher.

    Args:
        teacher: A `distill.contracts.TeacherBase`.
        student: A `distill.contracts.StudentBase`, or a plain model with a `feature_info`; its last map is trained.
        target: Name of the teacher's feature map, for example "neck" of SAM or "embedding" of a plain ViT.
        corruption: Noise and masking on the student's input.
        loss: Terms and their weights.
        optim: Optimizer and schedule.
        calibration_images: Training images from which the target's statistics and the image-independent baseline are
            taken before the first step.
        stuck_ratio: A validation L1 above this fraction of the baseline's counts as stuck on the plateau. A map that
            ignores the image has 1.00 in expectation.
        stuck_patience: Validations in a row after which a stuck run is warned about.

    Raises:
        UserError: No calibration image, a teacher that is no `TeacherBase` or lacks the target, or corrupted tokens of
            a student that has none.
    """

    name = "distillation"
    stages = ("fit", "validate")
    monitor = ("val/l1", "min")

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
        super().__init__(student, optim or OptimSettings(), teacher)
        corruption = corruption or CorruptionSettings()
        if calibration_images < 1:
            raise UserError(f"model.calibration_images is {calibration_images}; at least 1 image is needed")
        if self.teacher is None:
            raise UserError("model.teacher is null; a distillation needs a teacher, for example teachers.SAM")
        self.targets = LiveTargets(self.teacher, target, self.student.feature_info.reduction()[-1])
        if corruption.level == "image":
            token_channels = 3 * corruption.patch_size**2
        elif self.student.token_channels is not None:
            token_channels = self.student.token_channels
        else:
            raise UserError(
                f"model.corruption.level is 'token', but {type(student).__name__} exposes no tokens; "
                "set model.corruption.level to 'image'"
            )
        self.loss_settings = loss or LossSettings()
        self.calibration_images = calibration_images
        self.stuck_ratio = stuck_ratio
        self.stuck_patience = stuck_patience
        self.corruption = Corruption(token_channels, corruption)
        self.adapter = Adapter(self.student.feature_info.channels()[-1], self.targets.channels)
        self.statistics: TargetStatistics | None = None
        self._scores: dict[str, float] = {}
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
        maps = self.targets(images)
        if not self.loss_settings.standardize:
            return maps
        assert self.statistics is not None
        return self.statistics.z_scores(maps)

    def compare_maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What teacher and student make of clean RGB images (B, 3, H, W) in [0, 1].

        Returns:
            The teacher's map (B, C, h, w) in its own scale, the student's estimate of it in the same scale, and their
            mean absolute difference (B, h, w) as the loss sees it, relative to the image-independent baseline's L1 on
            each image.
        """
        assert self.statistics is not None
        raw = self.targets(images).float()
        estimate = self._aligned(images, (raw.shape[-2], raw.shape[-1])).float()
        target, shown = raw, estimate
        if self.loss_settings.standardize:
            target, shown = self.statistics.z_scores(raw), self.statistics.raw(estimate)
        baseline = torch.stack([self._baseline_l1(one[None]) for one in target])
        return raw, shown, (estimate - target).abs().mean(dim=1) / baseline[:, None, None]

    def corrupted_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), RGB in [0, 1], as the corruption shows them to the student.

        Noise and masking of tokens are drawn on the pixels that the tokens are made of. Draws from torch's CPU
        generator alone, so that all machines see the same.
        """
        settings = self.corruption.settings
        size, corruption = settings.patch_size, self.corruption
        if settings.level == "token":
            _, touched = self.student.forward_corrupted(self.normalize(images), _count_tokens)
            size = math.ceil(images.shape[-2] / _rows(touched.shape[1], images))
            corruption = self.corruption.on_pixels(size)
        normalize = copy.deepcopy(self.normalize).cpu().float()
        pixels = normalize(images.float().cpu())
        height, width = pixels.shape[-2:]
        padded = nn.functional.pad(pixels, (0, -width % size, 0, -height % size), mode="replicate")
        patches, _ = copy.deepcopy(corruption).cpu().float()(to_patches(padded, size))
        shown = from_patches(patches, size, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
        return (shown * normalize.std + normalize.mean).clamp(0, 1)

    def scores(self) -> dict[str, float]:
        """`l1`, `cosine`, `trivial_l1` and `l1_ratio` of the last validation; empty before the first one."""
        return dict(self._scores)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The student's estimate of the target (B, C, H, W), for clean RGB `batch["image"]` in [0, 1].

        Projected to the teacher's channels and resampled to its grid; standardised where the recipe trains on
        standardised targets. The teacher does not run.
        """
        images = batch["image"]
        return self._aligned(images, self.targets.grid(images.shape[-2], images.shape[-1]))

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is exported, and what its last map is.

        A student that was trained on standardised maps is returned as a copy that emits the teacher's scale.

        Returns:
            The student, and metadata: "last_map" in words. Where the student has no weights to fold the teacher's mean
            and standard deviation into, they are "output_mean" and "output_std", C numbers each.
        """
        student, kind = self.student, self.targets.name
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

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W), RGB in [0, 1]."""
        images = batch["image"]
        target = self.teacher_map(images)
        features, corrupted = self.estimate(images, corrupted=True)
        grid = (target.shape[-2], target.shape[-1])
        weight = None if corrupted is None else _to_grid(corrupted, images, grid)
        estimate = self.adapter(features, grid)
        maps = position_losses(self.loss_settings, estimate, target)
        values = combine(self.loss_settings, maps, weight)
        self.corruption.observe(maps["l1"].detach().mean() / self._baseline_l1(target))
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=len(images))
        self.log("corruption_strength", self.corruption.factor(), batch_size=len(images))
        return values["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Clean-input L1 and cosine, and the image-independent baseline's L1 on the same images."""
        images = batch["image"]
        target = self.teacher_map(images).float()
        estimate = self._aligned(images, (target.shape[-2], target.shape[-1])).float()
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
        self._scores = {name: float(metrics[f"val/{name}"]) for name in ("l1", "cosine", "trivial_l1")}
        self._scores["l1_ratio"] = float(ratio)
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
        super().on_fit_start()
        if self.statistics is not None:
            self.statistics = self.statistics.to(self.device)
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        maps = (self.targets(batch["image"].to(self.device)) for batch in loader)
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
        """Moves teacher and statistics to the device, for a validation on its own.

        Raises:
            UserError: There are no statistics: no checkpoint was loaded.
        """
        self.place_teacher()
        if self.statistics is None:
            raise UserError("validation needs a trained checkpoint; pass --ckpt_path, or run `distill fit` first")
        self.statistics = self.statistics.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the statistics."""
        super().on_save_checkpoint(checkpoint)
        if self.statistics is not None:
            checkpoint["target_statistics"] = {k: v.cpu() for k, v in vars(self.statistics).items()}
        if self._training_statistics:
            checkpoint["training_statistics"] = self._training_statistics

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the statistics.

        Raises:
            UserError: The checkpoint was trained against another teacher, by another task, or with another student.
        """
        if "target_statistics" not in checkpoint:
            raise UserError("the checkpoint is not one of a distillation run; pass the run's own checkpoints/last.ckpt")
        self.require_same_teacher(checkpoint)
        self.require_same_parts(checkpoint, "student")
        self.statistics = TargetStatistics(**checkpoint["target_statistics"])
        if self.trainer.state.fn == "fit":  # it goes on with the batch norms of training
            checkpoint["state_dict"] |= checkpoint.get("training_statistics", {})

    def _aligned(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The student's map of clean images in the teacher's channels and on its grid (B, C, *grid)."""
        aligned: Tensor = self.adapter(self.estimate(images)[0], grid)
        return aligned

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
        found = self._aligned(images, (target.shape[-2], target.shape[-1])).float()
        self.student.train(training)
        standardized = self.statistics.z_scores(found)
        closer = bool(l1(standardized, target).mean() < l1(found, target).mean())
        if self.trainer.strategy.broadcast(closer):
            self.student.fold_output(1 / std, -mean / std)
            self.print("warm start: the student's last map had the teacher's scale and is standardised for this run")

    def _estimate_statistics(self) -> None:
        """Estimates the running statistics of the student's batch norms on clean training views."""
        norms = running_statistics(self.student)
        if not norms or self._statistics_step == self.trainer.global_step:
            return
        self.print(f"batch norms: estimating statistics on clean training views, {_STATISTICS_IMAGES} at most")
        self._training_statistics = {f"student.{name}": buffer.clone() for name, buffer in norms.items()}
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        views = (self.normalize(batch["image"].to(self.device)) for batch in loader)
        seen = estimate_again(self.student, views, _STATISTICS_IMAGES)
        for buffer in norms.values():
            buffer.copy_(self.trainer.strategy.broadcast(buffer))
        self._statistics_step = self.trainer.global_step
        self.print(f"batch norms: statistics estimated again on {seen} clean training views")


def _to_grid(corrupted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Spreads the token map (B, N) over the target's grid (B, H, W), as fractions."""
    batch, count = corrupted.shape
    rows = _rows(count, images)
    token_map = corrupted.view(batch, 1, rows, count // rows).float()
    return nn.functional.interpolate(token_map, grid, mode="area")[:, 0]


def _rows(count: int, images: Tensor) -> int:
    """In how many rows `count` tokens cover the images."""
    height, width = images.shape[-2:]
    return round((count * height / width) ** 0.5)


def _count_tokens(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A corruption that touches nothing."""
    return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
