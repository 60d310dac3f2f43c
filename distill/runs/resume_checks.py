"""Settings that must not change when a run is resumed or scored."""

from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import parse_yaml
from distill.runs.differences import differing
from distill.runs.folder import RunFolder, RunState
from distill.runs.moved import is_path, without_paths
from distill.weights import read_training_checkpoint

# What may change in the middle of a run: how long it is, how it is watched, and where it runs and reads.
_FREE = (
    *(f"trainer.{key}" for key in ("max_steps", "max_epochs", "max_time", "accelerator", "logger", "callbacks")),
    *(f"trainer.{key}" for key in ("val_check_interval", "limit_val_batches", "log_every_n_steps")),
    "data.init_args.num_workers",
    "model.init_args.cache",  # stored targets are those of the teacher, bit for bit
)
# On how many processes it runs: the loader refuses another number of images a step.
_PROCESSES = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")


def require_same_recipe(folder: RunFolder, recipe: str) -> None:
    """Refuses to resume a run with other settings than it began with, which its checkpoint would partly override.

    Args:
        folder: The run folder.
        recipe: The resolved recipe, as YAML.

    Raises:
        UserError: A key differs that is not free to change.
    """
    begun = _stored(folder)
    keys = list(differing([without_paths(begun), without_paths(parse_yaml(recipe))])) if begun else []
    free = [*_FREE, *_PROCESSES]
    if any(key in _PROCESSES for key in keys):
        free.append("data.init_args.batch_size")
    changed = [key for key in keys if not f"{key}.".startswith(tuple(f"{one}." for one in free)) and not is_path(key)]
    if changed:
        typed = ", ".join(key.replace(".init_args", "") for key in changed)
        raise UserError(
            f"{folder} cannot be resumed with other settings than it began with; these differ: {typed}; leave "
            "them as they are in its recipe.yaml, or start another run with --run.dir"
        )


def require_same_selection(folder: RunFolder, data: Any) -> None:
    """Refuses to score a run on another division of the images than it was trained and selected with.

    Args:
        folder: The run folder.
        data: The recipe's `data` group.

    Raises:
        UserError: `val_fraction` or `val_seed` is not the run's, so that images it was trained on would be held out.
    """
    begun = _stored(folder).get("data", {}).get("init_args", {})
    for key in ("val_fraction", "val_seed"):
        now = data.init_args.get(key)
        if key in begun and now != begun[key]:
            raise UserError(
                f"data.{key} is {now}, but {folder} was trained with {begun[key]}: other images would be "
                "held out than were; leave it as the run has it"
            )


def require_steps_to_go(folder: RunFolder, checkpoint: Path, max_steps: int, max_epochs: int | None) -> None:
    """Refuses to resume a finished run that has nothing left to do.

    A run without a summary or a card was cut off after its last step: resuming it writes what is missing.

    Raises:
        UserError: The run is finished, and its checkpoint stands at or beyond `max_steps` or `max_epochs`.
    """
    if folder.state is not RunState.FINISHED or not folder.card.is_file():
        return
    content = read_training_checkpoint(checkpoint)
    done = {
        "step": (content["global_step"], max_steps, "trainer.max_steps"),
        "epoch": (
            content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"],
            max_epochs or -1,
            "trainer.max_epochs",
        ),
    }
    for unit, (reached, limit, key) in done.items():
        if 0 < limit <= reached:
            raise UserError(f"{folder} is already at {unit} {reached} of {limit}; raise {key}")


def _stored(folder: RunFolder) -> dict[str, Any]:
    """The recipe that the run began with; empty if there is none."""
    return folder.read_recipe() if folder.recipe.is_file() else {}
