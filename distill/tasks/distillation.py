"""The distillation step: clean view to the teacher, corrupted view to the student, one loss on the aligned map.

A reconstruction of RS4D's unpublished trainer (arXiv 2606.25324). Its logs and code make certain: SAM's neck as target,
L1, the student's last normalised map without a projection. By default the target is standardised, a cosine is added and
nothing is corrupted, which did better on real images (docs/distillation.md); `recipes/method` has RS4D's own.

Axes: B batch, C channels, H W grid, N tokens.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.targets.cache.reader import MISSED
from distill.targets.cache.settings import CacheSettings
from distill.targets.live import LiveTargets, Passes
from distill.tasks.base import TaskBase
from distill.tasks.corruption import Corruption, CorruptionSettings, from_patches, to_patches
from distill.tasks.losses.features import LossSettings
from distill.tasks.losses.schedule import weight_at
from distill.tasks.matching.adapter import require_projection
from distill.tasks.matching.last_map import exported_student, has_the_teachers_scale
from distill.tasks.matching.match import Match
from distill.tasks.matching.matches import calibrate, further_matches, restore, stored
from distill.tasks.matching.settings import TargetSettings
from distill.tasks.matching.stuck import StuckWarning
from distill.tasks.probes.base import ProbeBase
from distill.tasks.probes.validation import Probes
from distill.tasks.token_grid import to_grid
from distill.training.batch_norm import CleanStatistics
from distill.training.optim import OptimSettings, total_steps


class DistillationModule(TaskBase):
    """Trains a student to reproduce named feature maps of frozen teachers.

    Args:
        teacher: A `distill.contracts.TeacherBase`.
        student: A `distill.contracts.StudentBase`, or a plain model with a `feature_info`; its last map is trained.
        target: Name of the teacher's feature map, for example "neck" of SAM or "embedding" of a plain ViT.
        corruption: Noise and masking on the student's input.
        loss: Terms and their weights.
        optim: Optimizer and schedule.
        targets: Further targets, of this teacher or others, for any of the student's maps.
        adapter: Projection of the student's last map, dropped at the end: linear, mlp, conv3x3, or auto, which is
            linear only where the channels differ.
        teacher_image_size: Longer side of the teacher's view, in pixels; by default that of the student.
        calibration_images: Training images from which the target's statistics and the image-independent baseline are
            taken before the first step.
        stuck_ratio: A validation L1 above this fraction of the baseline's counts as stuck on the plateau. A map that
            ignores the image has 1.00 in expectation.
        stuck_patience: Validations in a row after which a stuck run is warned about.
        target_dtype: Precision that targets are rounded to, live and stored: "float32", "float16", "bfloat16" or
            "int8", which has a scale for each channel of an image.
        cache: Where `distill cache` has stored targets. They come with the samples, and the teacher is a stand-in.
        probes: Simple classifiers that every validation fits to the student's features, on images with labels.

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
        targets: list[TargetSettings] | None = None,
        adapter: str = "auto",
        teacher_image_size: int | None = None,
        calibration_images: int = 64,
        stuck_ratio: float = 0.98,
        stuck_patience: int = 3,
        target_dtype: str = "float32",
        cache: CacheSettings | None = None,
        probes: list[ProbeBase] | None = None,
    ) -> None:
        further = targets or []
        others = {id(own.teacher): own.teacher for own in further if own.teacher is not None}
        super().__init__(student, optim or OptimSettings(), teacher, list(others.values()))
        corruption = corruption or CorruptionSettings()
        if calibration_images < 1:
            raise UserError(f"model.calibration_images is {calibration_images}; at least 1 image is needed")
        if self.teacher is None:
            raise UserError("model.teacher is null; a distillation needs a teacher, for example teachers.SAM")
        require_projection("model.adapter", adapter)
        info = self.student.feature_info
        source = LiveTargets(self.teacher, target, info.reduction()[-1], teacher_image_size, dtype=target_dtype)
        token_channels = self.student.token_channels if corruption.level == "token" else 3 * corruption.patch_size**2
        if token_channels is None and corruption.corrupts:
            raise UserError(
                f"model.corruption.level is 'token', but {type(student).__name__} exposes no tokens; "
                "set model.corruption.level to 'image'"
            )
        self.calibration_images = calibration_images
        self.corruption = Corruption(token_channels or 0, corruption)
        match = Match(source, info.channels(), loss or LossSettings(), adapter)
        self._main = (match,)  # in a tuple: in checkpoints, its parts have no prefix
        self.adapter, self.generators = match.adapter, match.generators
        own_teachers = {id(known): known for known in self.teachers}
        sources = [own_teachers.get(id(own.teacher), self.teacher) for own in further]
        self.further = nn.ModuleList(further_matches(further, sources, info, target_dtype))
        self.probes = Probes(probes or [])
        self._probed: dict[str, float] = {}
        self._scores: dict[str, float] = {}
        self._stuck = StuckWarning(stuck_ratio, stuck_patience)
        self._clean_statistics = CleanStatistics()

    @property
    def match(self) -> Match:
        """The match of the student's last map with the main target."""
        return self._main[0]

    @property
    def matches(self) -> list[Match]:
        """The main match, and those of `model.targets`."""
        return [self.match, *self.further]

    def student_maps(
        self, images: Tensor, corrupted: bool = False, target: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """The student's maps of RGB images in [0, 1].

        Args:
            images: (B, 3, H, W).
            corrupted: Whether to corrupt the student's input.
            target: From `Match.target`, for a corruption that is guided by it.

        Returns:
            The unaligned maps (B, C_i, h_i, w_i), and the corrupted tokens (B, N), or None where nothing is corrupted.
        """
        images = self.normalize(images)
        if not (corrupted and self.corruption.settings.corrupts):
            return self.student(images), None
        settings, size = self.corruption.settings, (images.shape[-2], images.shape[-1])
        corrupt = partial(self.corruption, image_size=size, target=target)
        if settings.level == "token":
            return self.student.forward_corrupted(images, corrupt)
        patches, touched = corrupt(to_patches(images, settings.patch_size))
        return self.student(from_patches(patches, settings.patch_size, size)), touched

    def raw_target(self, batch: dict[str, Any], passes: Passes | None = None) -> Tensor:
        """The teacher's maps (B, C, H, W), in its own scale, of the clean RGB images `batch["image"]` in [0, 1]."""
        return self.match.targets.of(batch, passes)

    def raw_targets(self, batch: dict[str, Any]) -> list[Tensor]:
        """The raw target of each of `matches`. A teacher runs once for all its features of one view."""
        passes: Passes = {}
        main = self.raw_target(batch, passes)
        return [main, *(match.targets.of(batch, passes) for match in self.matches[1:])]

    @property
    def stored_targets(self) -> list[LiveTargets]:
        """The targets that a cache holds: those of the main teacher."""
        return [match.targets for match in self.matches if match.targets.teacher is self.teacher]

    def scores(self) -> dict[str, float]:
        """`l1`, `cosine`, `trivial_l1`, `l1_ratio` and the scores of probes; empty before the first validation.

        Those of further targets begin with their names: `<target>/l1_ratio`.
        """
        return dict(self._scores)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The student's estimate of the target (B, C, H, W), for clean RGB `batch["image"]` in [0, 1].

        Projected to the teacher's channels and resampled to its grid; standardised where the recipe trains on
        standardised targets. The teacher does not run.
        """
        images = batch["image"]
        grid = self.match.targets.grid(images.shape[-2], images.shape[-1])
        return self.match.estimate(self.student_maps(images)[0], grid)

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is exported, and metadata about its last map; see `distill.tasks.matching.last_map`."""
        return exported_student(self.student, self.match)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W), RGB in [0, 1]."""
        images = batch["image"]
        targets = [match.target(raw) for match, raw in zip(self.matches, self.raw_targets(batch), strict=True)]
        self.corruption.at(self.global_step)
        maps, touched = self.student_maps(images, corrupted=True, target=targets[0])
        logged: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        observed: list[Tensor] = []
        for match, target in zip(self.matches, targets, strict=True):
            corrupted = None if touched is None else to_grid(touched, images, (target.shape[-2], target.shape[-1]))
            values, l1_ratio = match.losses(maps, target, corrupted, self.global_step)
            observed.append(l1_ratio)
            losses.append(weight_at(match.weight, self.global_step) * values["loss"])
            logged |= {f"train/{match.key(name)}": value for name, value in values.items()}
            weights = match.scheduled(self.global_step)
            logged |= {f"weight/{name}": l1_ratio.new_full((), weight) for name, weight in weights.items()}
        logged["train/loss"] = torch.stack(losses).sum() if len(losses) > 1 else losses[0]
        if MISSED in batch:
            misses = images.new_full((), sum(map(bool, batch[MISSED])), dtype=torch.float32)
            self.log("cache_misses", misses, reduce_fx="sum", batch_size=len(images))
        self.log_dict(logged | self.corruption.report(), batch_size=len(images))
        self.corruption.observe(observed[0])
        return logged["train/loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Clean-input L1 and cosine of each target, and the image-independent baseline's L1 on the same images."""
        maps, _ = self.student_maps(batch["image"])
        for match, raw in zip(self.matches, self.raw_targets(batch), strict=True):
            values = {f"val/{match.key(name)}": v for name, v in match.scores(maps, match.target(raw)).items()}
            self.log_dict(values, batch_size=len(batch["image"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Logs how far below the image-independent baseline the student is, and warns when it stays there."""
        metrics = self.trainer.callback_metrics
        self._scores = {}
        for match in self.matches:
            found = {name: metrics[f"val/{match.key(name)}"] for name in ("l1", "cosine", "trivial_l1")}
            found["l1_ratio"] = found["l1"] / found["trivial_l1"]
            name = match.key("l1_ratio")
            self.log(f"val/{name}", found["l1_ratio"], prog_bar=match is self.match, sync_dist=True)
            self._scores |= {match.key(name): float(value) for name, value in found.items()}
        ratio = self._scores["l1_ratio"]
        self._scores |= self._probed
        self.log_dict({f"val/{name}": score for name, score in self._probed.items()}, prog_bar=True, sync_dist=True)
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self.corruption.observe_clean(ratio)
            self._stuck.observe(ratio, self.trainer.global_step <= self.optim_settings.warmup_steps)

    def setup(self, stage: str) -> None:
        """Checks the precision, and reads the images of the probes, so that a mistake shows before training starts.

        Raises:
            UserError: `trainer.precision` casts weights that cannot be cast, or images of a probe cannot be used.
        """
        super().setup(stage)
        self.probes.load()

    def on_fit_start(self) -> None:
        """Takes the target's statistics once, and starts the student's output at the target's scale."""
        super().on_fit_start()
        self.corruption.begin(total_steps(self.trainer))
        if self.match.statistics is not None:
            self._place_statistics()
            return
        loader = self.trainer.datamodule.full_size_dataloader()  # type: ignore[attr-defined]
        raw = (self._calibrating(batch) for batch in loader)
        # An epoch leaves out what fills no batch; a single one may be larger than the data.
        there = min(len(loader) * loader.batch_size, len(loader.sampler))
        calibrate(self.matches, raw, min(self.calibration_images, there))
        for match in self.matches:
            match.statistics = self.trainer.strategy.broadcast(match.statistics)
        self._place_statistics()
        if not self.match.projects:
            self._start_last_map(loader)

    def on_train_end(self) -> None:
        """Estimates batch-norm statistics on clean images, with averaged weights in place."""
        super().on_train_end()
        self._clean_statistics.estimate(self, self.student, self.normalize)

    def on_validation_epoch_start(self) -> None:
        """Estimates these statistics before the last validation, and scores the probes."""
        if self.trainer.state.fn == "fit" and self.trainer.global_step >= total_steps(self.trainer):
            self._clean_statistics.estimate(self, self.student, self.normalize)
        self._probed = self.probes.score(self)

    def on_validation_start(self) -> None:
        """Moves teacher and statistics to the device, for a validation on its own.

        Raises:
            UserError: There are no statistics: no checkpoint was loaded.
        """
        self.place_teacher()
        if self.match.statistics is None:
            raise UserError("validation needs a trained checkpoint; pass --ckpt_path, or run `distill fit` first")
        self._place_statistics()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the statistics."""
        super().on_save_checkpoint(checkpoint)
        if self.match.statistics is not None:
            checkpoint |= stored(self.matches)
        if self._clean_statistics.training:
            checkpoint["training_statistics"] = self._clean_statistics.training

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the statistics.

        Raises:
            UserError: The checkpoint was trained against another teacher, by another task, or with another student.
        """
        restore(self.matches, checkpoint)
        self.require_same_teacher(checkpoint)
        self.require_same_parts(checkpoint, "student")
        if self.trainer.state.fn == "fit":  # it goes on with the batch norms of training
            checkpoint["state_dict"] |= checkpoint.get("training_statistics", {})

    def _calibrating(self, batch: Any) -> list[Tensor]:
        """Targets of a batch of the loader, in the precision of training."""
        with self.trainer.precision_plugin.train_step_context():
            return self.raw_targets(self.transfer_batch_to_device(batch, self.device, 0))

    def _place_statistics(self) -> None:
        for match in self.matches:
            match.place(self.device)

    @torch.no_grad()
    def _start_last_map(self, loader: Any) -> None:
        """Starts the last map at the target's scale; a loaded one that emits the teacher's is standardised."""
        known = self.match.known
        if self.student.rescale_output(1.0 if self.match.standardizes else known.rms()):
            return
        if self.match.loss.standardize != "channel":  # by channel alone a last norm can be folded
            return
        batch = self.transfer_batch_to_device(next(iter(loader)), self.device, 0)
        training = self.student.training
        self.student.eval()
        maps, _ = self.student_maps(batch["image"])
        self.student.train(training)
        found = has_the_teachers_scale(maps, self._calibrating(batch)[0], self.match)
        if self.trainer.strategy.broadcast(found):
            self.student.fold_output(1 / known.std, -known.mean / known.std)
            self.print("warm start: the student's last map had the teacher's scale and is standardised for this run")
