"""Scores one run on its validation or test images."""

from typing import Any

from distill.errors import UserError
from distill.evaluation.metrics import is_metric
from distill.launch.attach_cache import attach_cache
from distill.launch.checkpoints import StoredState, stored_state
from distill.launch.fit import settings_of_interest
from distill.launch.initial_weights import require_teachers
from distill.launch.loggers import log_scores
from distill.launch.parse import Built, ParsedRecipe
from distill.launch.process import memory_kept
from distill.launch.trainer import build_trainer, recipe_callbacks, require_device
from distill.phases import phase
from distill.report.pictures.callbacks import ScoringPictures
from distill.report.write_scores import report_scores
from distill.runs.data_wait import DataWait
from distill.runs.displays import progress_display
from distill.runs.metadata import components
from distill.runs.progress import images_to_score
from distill.runs.replacement import recover
from distill.runs.resume_checks import require_same_selection
from distill.runs.scoring import overrides

Scores = dict[str, float]


def score_one(recipe: ParsedRecipe) -> Scores:
    """Scores the run that a recipe for "validate" or "test" describes; prints and stores what it finds.

    Returns:
        The scores by metric, NaN where one is not defined; nothing in a process that is not the one that reports.

    Raises:
        UserError: Bad input.
    """
    with recipe.explained(), memory_kept(recipe.config.trainer):
        recover(recipe.folder)
        if recipe.stage not in recipe.task_class.stages:
            raise UserError(f"a distillation run has no {recipe.stage} split; use `distill validate`")
        _require_batches(recipe)
        state = stored_state(recipe.folder, recipe.config.ckpt_path or "last", str(recipe.recipe))
        changed = overrides(recipe.folder, recipe.text(), recipe.task_class.training_only)
        for argument in recipe.task_class.training_only:
            recipe.config.model.init_args[argument] = None  # a teacher's file may have been deleted
        require_teachers(recipe.config.model, "scoring a distillation")
        require_device(recipe.config.trainer)
        data = recipe.build_data()
        require_same_selection(recipe.folder, recipe.config.data)
        _require_other_images(recipe, data, state)
        with phase("reading the data's index"):  # before the model is built, so that missing files show early
            data.setup(recipe.stage)
            class_names = data.class_names
        built = recipe.build(weights_stored=True, data=data)
        built.task.build(class_names)
        attach_cache(recipe, built)
        wait = DataWait()
        display = progress_display(wait, lambda: "")
        pictures = ScoringPictures(recipe.folder, recipe.stage, state.step)
        callbacks = [pictures, *recipe_callbacks(built.trainer), wait, display]
        trainer = build_trainer(built.trainer, recipe.folder, callbacks)
        run = {"validate": trainer.validate, "test": trainer.test}[recipe.stage]
        # Not verbose: a table of this project's own follows.
        run(built.task, datamodule=built.data, **{**built.arguments, "ckpt_path": str(state.path), "verbose": False})
        if not trainer.is_global_zero:
            return {}
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if is_metric(name)}
        facts = {"checkpoint": state.name, "step": state.step, "image_size": built.data.image_size}
        facts |= built.data.scoring()
        if recipe.stage == "test" and built.data.selects_on_test:
            facts["split"] = "val"  # there are no test files
        facts |= {"image_set": _image_set(recipe.stage, trainer), "overrides": changed}
        return _report(recipe, built, facts, logged)


def _report(recipe: ParsedRecipe, built: Built, facts: dict[str, Any], logged: dict[str, float]) -> Scores:
    scores = report_scores(recipe.folder, recipe.stage, built.task, logged, facts)
    if recipe.wants_logger:
        known = components(built.task, built.data, facts["image_size"]) | settings_of_interest(recipe)
        settings = recipe.settings
        log_scores(recipe.folder, settings.loggers, settings.experiment, known, recipe.stage, facts["step"])
    return scores


def _image_set(stage: str, trainer: Any) -> str:
    """The fact `image_set`, of the images that `trainer.limit_test_batches` and the like left."""
    split, loaders, batches = "val", trainer.val_dataloaders, trainer.num_val_batches
    if stage == "test":
        split, loaders, batches = stage, trainer.test_dataloaders, trainer.num_test_batches
    return str(trainer.datamodule.image_set(split, images_to_score(trainer, loaders, batches)))


def _require_batches(recipe: ParsedRecipe) -> None:
    """Refuses a recipe that leaves no images to score, as one that trains without validation does."""
    key = {"validate": "limit_val_batches", "test": "limit_test_batches"}[recipe.stage]
    if recipe.config.trainer[key] == 0:
        raise UserError(f"trainer.{key} is 0, so there is nothing to score; give --trainer.{key} 1.0 for all images")


def _require_other_images(recipe: ParsedRecipe, data: Any, state: StoredState) -> None:
    """Refuses to report a checkpoint on the images that it was chosen on."""
    if recipe.stage != "test" or state.path.name != recipe.folder.BEST or not data.selects_on_test:
        return
    way_out = (
        "with test images of their own in data.test_images and data.test_annotations"
        if data.val_fraction
        else "with --data.val_fraction 0.1, which holds out a part of the training images to choose on"
    )
    raise UserError(
        "best.ckpt was chosen by its score on the very images that `distill test` reports; test the last checkpoint "
        f"(--ckpt_path last), or fit again {way_out}"
    )
