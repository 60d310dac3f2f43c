"""When pictures are made: at the end of a scoring, and after every n-th validation of a fit."""

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from torch import Tensor

from distill.errors import first_line
from distill.evaluation.instances import InstanceEvaluation
from distill.report.pictures.drawing import Drawing
from distill.report.pictures.features import feature_drawings
from distill.report.pictures.instances import instance_drawings
from distill.report.pictures.labels import label_drawings
from distill.report.pictures.stored import PictureSet
from distill.report.pictures.write import write_pictures
from distill.runs.folder import RunFolder
from distill.runs.loggers import RunLogger
from distill.tasks.distillation import DistillationModule
from distill.tasks.segmentation import SegmentationModule

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Draw = Callable[[], list[Drawing]]
_DENSE = 16  # sets of pictures of a fit before they become rarer


class ScoringPictures(pl.Callback):
    """Stores pictures of what is scored in the run folder.

    For maps and land cover the model runs on its images once more, when the evaluation is over. This must come before
    EMA, whose hooks then put other weights in place. Nothing of a run depends on it: it draws no random number that
    training would draw, only the first process works, and of what goes wrong there is one warning.

    Args:
        folder: The run folder.
        stage: "validate" or "test".
        step: Optimizer step of the weights.
    """

    def __init__(self, folder: RunFolder, stage: str, step: int) -> None:
        self.folder = folder
        self.stage = stage
        self._step = step
        self._drawings: list[Drawing] = []
        self._warned = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws what the model has to compute again."""
        self._look(trainer, pl_module, "val")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws predictions that were scored, and stores the pictures."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As `on_validation_epoch_end`."""
        self._look(trainer, pl_module, "test")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As `on_validation_end`."""
        self._finish(trainer, pl_module, "test")

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether this evaluation gets pictures."""
        return True

    def place(self, step: int) -> Path:
        """The folder of a set."""
        return self.folder.pictures(self.stage)

    def step(self, trainer: pl.Trainer) -> int:
        """Optimizer step of the weights."""
        return self._step

    def show(self, pictures: PictureSet) -> None:
        """Hands a set on."""

    def _look(self, trainer: pl.Trainer, task: Any, split: str) -> None:
        self._drawings = []
        draw = {DistillationModule: feature_drawings, SegmentationModule: label_drawings}
        for kind, drawings in draw.items():
            if isinstance(task, kind):
                self._make(trainer, partial(_drawn_by_model, drawings, trainer, task, split))

    def _finish(self, trainer: pl.Trainer, task: Any, split: str) -> None:
        found = task.evaluation
        if isinstance(found, InstanceEvaluation):
            self._make(trainer, lambda: instance_drawings(_dataset(trainer, split), found.evaluator))
        drawings, self._drawings = self._drawings, []
        if not drawings:
            return
        step = self.step(trainer)
        pictures = self._attempt(step, lambda: write_pictures(self.place(step), self.stage, step, drawings))
        if pictures is not None:
            self._attempt(step, lambda: self.show(pictures))

    def _make(self, trainer: pl.Trainer, draw: _Draw) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking and self.due(trainer):
            step = self.step(trainer)
            shutil.rmtree(self.place(step), ignore_errors=True)  # what is there is of other weights
            self._drawings = self._attempt(step, draw) or []

    def _attempt(self, step: int, do: Callable[[], T]) -> T | None:
        """What `do` returns; None where it fails."""
        try:
            return do()
        except Exception as error:  # whatever it is, scores and weights are worth more
            if not self._warned:
                logger.warning("pictures of step %d are incomplete in %s: %s", step, self.folder, first_line(error))
            self._warned = True
            return None


class FitPictures(ScoringPictures):
    """Stores pictures of every n-th validation of a fit and of the last one, and hands them to the loggers.

    After 16 sets they are half as frequent, after 32 a quarter, and so on: their number grows with the logarithm of the
    length of the fit.

    Must come before EMA, see `ScoringPictures`.

    Args:
        folder: The run folder.
        every: Validations between two sets.
        loggers: Those of the run.
    """

    def __init__(self, folder: RunFolder, every: int, loggers: RunLogger | None) -> None:
        super().__init__(folder, "fit", 0)
        self.every = every
        self.loggers = loggers
        self._validations = 0
        self._start = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers where training starts."""
        self._start = trainer.global_step

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stores the pictures, and counts the validation."""
        super().on_validation_end(trainer, pl_module)
        self._validations += not trainer.sanity_checking

    def state_dict(self) -> dict[str, Any]:
        """The validations so far, for a run that is resumed."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self._validations = state_dict["validations"]

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether it is the turn of this validation; not before the first step, when the folder is not open yet."""
        last = trainer.should_stop  # as `FinalValidation` has it
        sets, rest = divmod(self._validations + 1, self.every)
        return trainer.global_step > self._start and (last or (rest == 0 and sets % _rarer(sets) == 0))

    def place(self, step: int) -> Path:
        """A folder for each step."""
        return self.folder.pictures(self.stage) / str(step)

    def step(self, trainer: pl.Trainer) -> int:
        """The steps taken."""
        return trainer.global_step

    def show(self, pictures: PictureSet) -> None:
        """Logs a set."""
        if self.loggers is not None:
            self.loggers.log_pictures(pictures)


def _rarer(sets: int) -> int:
    """How many times rarer pictures are by now: 1 up to `_DENSE` sets, and twice as many whenever these have doubled.

    So the pictures of a long run take little space, and a run that is resumed has those of one that was not.
    """
    return 1 << ((sets - 1) // _DENSE).bit_length()


def drop_pictures(folder: RunFolder, after: int) -> None:
    """Removes pictures of the fit beyond a step, from which the run goes on."""
    for place in folder.pictures("fit").glob("*"):
        if place.name.isdigit() and int(place.name) > after:
            shutil.rmtree(place)


def _drawn_by_model(draw: Callable[..., list[Drawing]], trainer: pl.Trainer, task: Any, split: str) -> list[Drawing]:
    """Drawings that the model looks at once more, in the precision of the run."""
    precision = trainer.precision_plugin

    def as_batch(image: Tensor) -> Tensor:
        batch: Tensor = precision.convert_input(image[None].to(task.device))
        return batch

    with precision.val_step_context():
        return draw(_dataset(trainer, split), task, as_batch)


def _dataset(trainer: pl.Trainer, split: str) -> Any:
    return trainer.datamodule.dataset(split)  # type: ignore[attr-defined]
