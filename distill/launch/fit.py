"""Fits one run: reads everything that it needs, builds its trainer once, trains, and writes the card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor, Timer

from distill.errors import UserError
from distill.launch.attach_cache import attach_cache
from distill.launch.checkpoints import StoredState, stored_state
from distill.launch.initial_weights import require_teachers
from distill.launch.loggers import build_dashboards, require_loggers
from distill.launch.parse import Built, ParsedRecipe, arguments_of
from distill.launch.process import memory_kept
from distill.launch.smaller import smaller_run
from distill.launch.trainer import build_trainer, recipe_callbacks, require_device, training_timer
from distill.phases import phase
from distill.report.card import write_card
from distill.report.pictures.callbacks import FitPictures, drop_pictures
from distill.runs.announcement import announce
from distill.runs.best_checkpoint import BestCheckpoint
from distill.runs.data_wait import DataWait
from distill.runs.displays import progress_display
from distill.runs.failed_batch import FailedBatch
from distill.runs.finish import FinishRun, hours
from distill.runs.first_step import FirstStep
from distill.runs.folder import RunFolder
from distill.runs.last_checkpoint import LastCheckpoint
from distill.runs.loading import loading_lines
from distill.runs.loggers import RunLogger
from distill.runs.metadata import run_facts
from distill.runs.metrics_file import MetricsFile
from distill.runs.replacement import recover
from distill.runs.resume_checks import require_same_recipe, require_steps_to_go
from distill.scene.georeference import ground_size
from distill.training.final_validation import FinalValidation
from distill.training.optim import batches_per_epoch


@dataclass(frozen=True)
class Fitted:
    """A run that was fitted just now.

    Attributes:
        folder: The run folder.
        task: The trained module.
        data: What it was trained on.
        data_wait: Share of the training time that was spent waiting for data.
    """

    folder: RunFolder
    task: Any
    data: Any
    data_wait: float


def fit_one(recipe: ParsedRecipe) -> Fitted | None:
    """Fits the run that a recipe for "fit" describes, or resumes it.

    Returns:
        The run; None in a process that is not the one that reports.

    Raises:
        UserError: Bad input.
    """
    with recipe.explained(), memory_kept(recipe.config.trainer):
        recover(recipe.folder)
        state = _state(recipe)
        _require_possible(recipe, state)
        built = recipe.build(weights_stored=state is not None)
        with phase("reading the data's index"):
            built.data.setup("fit")
        built.task.build(built.data.class_names)
        attach_cache(recipe, built)
        size = built.data.image_size
        with phase(f"measuring what the student costs at {size} px"):
            facts = run_facts(built.task, built.data, size, recipe.config.model.init_args)
        facts |= built.data.scale(ground_size) | settings_of_interest(recipe) | {"lr": built.task.optim_settings.lr}
        wait, timer = DataWait(), training_timer(built.trainer)
        logger = RunLogger(recipe.folder, lambda: hours(timer.time_elapsed())) if recipe.wants_logger else None
        callbacks = _callbacks(recipe, built, state, facts, wait, timer, logger)
        trainer = build_trainer(built.trainer | {"max_time": None}, recipe.folder, callbacks, logger)
        # As `Trainer.fit` will: several processes share an epoch, and its length is asked for before.
        trainer.datamodule, built.data.trainer = built.data, trainer  # type: ignore[attr-defined]
        _require_interval_in_epoch(trainer, built.data)
        announce(trainer, built.data)
        recipe.folder.require_writable()
        path = None if state is None else str(state.path)
        trainer.fit(built.task, datamodule=built.data, **{**built.arguments, "ckpt_path": path})
    if not trainer.is_global_zero:
        return None
    write_card(recipe.folder, loading_lines(recipe.folder, built.task.student))
    return Fitted(recipe.folder, built.task, built.data, wait.share)


def _callbacks(
    recipe: ParsedRecipe,
    built: Built,
    state: StoredState | None,
    facts: dict[str, Any],
    wait: DataWait,
    timer: Timer,
    logger: RunLogger | None,
) -> list[pl.Callback]:
    """All callbacks in order. Lightning moves those that write checkpoints to the end; here they stand there already.

    At the end of training the first one has the training state saved, before EMA among those of the recipe puts the
    averaged weights in its place; pictures are made before it puts the training weights back after a validation.
    """
    folder, text, resumed = recipe.folder, recipe.text(), state is not None and state.own
    keep = state.step if state is not None and resumed else -1

    def open_loggers(trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            drop_pictures(folder, keep)
        if logger is not None:
            settings = recipe.settings
            names = settings.loggers if trainer.is_global_zero else ()
            dashboards = build_dashboards(folder, names, settings.experiment, facts, keep)
            logger.write_to(MetricsFile(folder, keep), dashboards)

    last = LastCheckpoint(folder, recipe.settings.checkpoint_every)
    first_step = FirstStep(folder, text, resumed, last.save, open_loggers)
    given = recipe_callbacks(built.trainer)
    callbacks: list[pl.Callback] = [FinishRun(folder, facts, last.save, first_step.open_folder, timer)]
    if every := recipe.settings.pictures_every:
        callbacks.append(FitPictures(folder, every, logger))
    callbacks += given
    callbacks.append(FailedBatch(folder, text))
    callbacks.append(first_step)  # before the wait for data is measured, which must not count opening the folder
    callbacks += [wait, progress_display(wait, lambda: smaller_run(recipe.recipe.path, recipe.config.as_dict()))]
    if timer not in given:
        callbacks.append(timer)
    callbacks.append(FinalValidation())  # asks the timer whether the run ends
    if logger is not None:
        callbacks.append(LearningRateMonitor(logging_interval="step"))
    monitor, mode = built.task.monitor
    best = BestCheckpoint(folder, monitor, mode, resumed)
    return [*callbacks, best, last]  # last.ckpt holds the state of `best`


def settings_of_interest(recipe: ParsedRecipe) -> dict[str, Any]:
    """Settings that dashboards compare runs by."""
    batch_size = arguments_of(recipe.config.data).get("batch_size")
    return {"seed": recipe.config.seed_everything, "batch_size": batch_size}


def _state(recipe: ParsedRecipe) -> StoredState | None:
    given = recipe.config.ckpt_path
    return None if given is None else stored_state(recipe.folder, given, str(recipe.recipe))


def _require_possible(recipe: ParsedRecipe, state: StoredState | None) -> None:
    """Refuses what cannot work before anything is built."""
    config, folder, limits = recipe.config, recipe.folder, recipe.config.trainer
    if state is not None:
        require_teachers(config.model, "resuming")
    if recipe.wants_logger:
        require_loggers(config.run.loggers)
    if config.run.pictures_every < 0:
        raise UserError(f"run.pictures_every is {config.run.pictures_every}; it must be 0, for no pictures, or above")
    folder.require_fresh(config.run.overwrite, resuming=state is not None and state.own)
    if state is not None and state.own:
        require_same_recipe(folder, recipe.text())
        require_steps_to_go(folder, Path(state.path), limits.max_steps, limits.max_epochs)
    if limits.max_steps == -1 and limits.max_epochs in (-1, None):
        raise UserError("the recipe sets neither trainer.max_steps nor trainer.max_epochs; set one of them")
    require_device(limits)


def _require_interval_in_epoch(trainer: pl.Trainer, data: Any) -> None:
    """Refuses what Lightning would refuse only once the run folder is there."""
    every = trainer.val_check_interval
    if trainer.check_val_every_n_epoch is None or not isinstance(every, int):
        return
    batches = batches_per_epoch(trainer, data)
    if every > batches and trainer.limit_val_batches:
        raise UserError(
            f"trainer.val_check_interval is {every} batches, but an epoch has {batches}; with "
            "trainer.check_val_every_n_epoch null it counts on over epochs"
        )
