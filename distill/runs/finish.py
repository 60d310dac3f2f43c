"""Writes the exported student and the summary of a finished fit."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer, WeightAveraging

from distill.evaluation.metrics import is_metric
from distill.runs.folder import RunFolder
from distill.runs.progress import images_to_score
from distill.weights import write_weights

_TEACHER = ("teacher", "teacher_digest", "teacher_weights")  # facts that student.safetensors holds, too


class FinishRun(pl.Callback):
    """Ends a run: its last training state, then the exported student and the summary.

    Must be the first callback: at the end of training it has the training state written before EMA puts the averaged
    weights in its place.

    Args:
        folder: The run folder.
        facts: Components and costs, see `distill.runs.metadata`.
        save: Writes the training state, see `distill.runs.last_checkpoint`.
        open_folder: Opens the folder, unless the first step has, see `distill.runs.first_step`.
        timer: Keeps the training time over resumptions.
    """

    def __init__(
        self,
        folder: RunFolder,
        facts: Mapping[str, Any],
        save: Callable[[pl.Trainer], None],
        open_folder: Callable[[pl.Trainer], None],
        timer: Timer,
    ) -> None:
        self.folder = folder
        self.facts = dict(facts)
        self.save = save
        self.open_folder = open_folder
        self.timer = timer
        self._metrics: dict[str, float] = {}
        self._trained = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the final training state."""
        self.save(trainer)
        self._trained = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the last metrics, which a run that is interrupted after its last step still reports."""
        checkpoint["metrics"] = self._metrics | _metrics(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores them."""
        stored: dict[str, float] = checkpoint.get("metrics", {})
        self._metrics = {name: value for name, value in stored.items() if is_metric(name)}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exports the student and writes the summary; averaged weights are in place by now."""
        self.open_folder(trainer)
        if not self._trained:  # resumed after its last step: training did not end here
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    callback.on_train_end(trainer, pl_module)
            pl_module.on_train_end()
            _find_validation_images(trainer)
        if not trainer.is_global_zero:
            return
        task: Any = pl_module
        student, said = task.exported_student()
        metadata: dict[str, object] = {
            "class": student.class_path,
            "init_args": dict(student.init_args),
            "run": self.folder.name,
            **said,
            **{key: str(self.facts[key]) for key in _TEACHER if key in self.facts},
        }
        write_weights(student, self.folder.student, metadata)
        facts = self.facts | {key: said[key] for key in ("last_map",) if key in said}
        facts |= {"train_hours": hours(self.timer.time_elapsed()), **_validated(trainer)}
        self.folder.finish(facts | {"steps": trainer.global_step}, self._metrics | _metrics(trainer))


def hours(seconds: float) -> float:
    """Seconds in hours, to a hundredth of a second."""
    return round(seconds / 3600, 6)


def _find_validation_images(trainer: pl.Trainer) -> None:
    """As the start of training does."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.setup_data()
    trainer.training = True


def _validated(trainer: pl.Trainer) -> dict[str, str]:
    """The fact `val_image_set`, where a validation looked at images."""
    loaders, data = trainer.val_dataloaders, trainer.datamodule  # type: ignore[attr-defined]
    count = 0 if loaders is None else images_to_score(trainer, loaders, trainer.num_val_batches)
    return {"val_image_set": data.image_set("val", count)} if count else {}


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if is_metric(name)}
