"""Differences between a scoring and the recipe that its run was trained with."""

from collections.abc import Mapping
from typing import Any

from distill.files import parse_yaml
from distill.runs.differences import flattened
from distill.runs.folder import RunFolder
from distill.runs.moved import is_path, without_paths

_GROUPS = ("model.", "data.", "trainer.precision")
_HARMLESS = ("data.init_args.num_workers", "data.init_args.batch_size", "data.init_args.seed")


def overrides(folder: RunFolder, recipe: str, training_only: tuple[str, ...]) -> dict[str, Any]:
    """The fact `overrides`: values by dotted key that scores may depend on and that are not those of the run's recipe.

    Paths are left out, which may have moved: the fact `image_set` tells what lay there.

    Args:
        folder: The run folder.
        recipe: The resolved recipe of the scoring, as YAML.
        training_only: Arguments of the task that scoring does without.
    """
    if not folder.recipe.is_file():  # a checkpoint of another folder is scored
        return {}
    begun, now = (dict(flattened(without_paths(one))) for one in (folder.read_recipe(), parse_yaml(recipe)))
    unneeded = (*_HARMLESS, *(f"model.init_args.{name}" for name in training_only))
    return {
        key: value
        for key, value in flattened(parse_yaml(recipe))
        if key.startswith(_GROUPS)
        and not f"{key}.".startswith(tuple(f"{name}." for name in unneeded))
        and not is_path(key)
        and _differs(key, now[key], begun)
    }


def _differs(key: str, value: object, begun: Mapping[str, Any]) -> bool:
    """Whether it was set to something else; a key that is not in the recipe of an earlier version has its default."""
    if key in begun:
        return bool(begun[key] != value)
    parents = key.split(".")
    return any(".".join(parents[:length]) in begun for length in range(1, len(parents)))
