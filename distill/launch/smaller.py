"""Finds the combination of recipes for a CPU that is nearest to a long run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.recipe.combinations import COMBINATIONS, command
from distill.recipe.compose import compose

# What a recipe is made of, and how much it counts that two recipes share it.
_PARTS = {"student": 3, "teacher": 2, "head": 2, "data": 1}


def smaller_run(recipe: Path, config: Mapping[str, Any]) -> str:
    """A sentence that names a smaller run.

    Args:
        recipe: The file or name that the run was started from.
        config: Its content with every override.
    """
    keys = "--trainer.max_steps, --data.image_size or --data.batch_size"
    name = None if "cpu" in recipe.stem.split("_") else nearest_cpu_recipe(config)
    if name is None:
        return f"For a shorter run lower {keys}."
    return f"For a run in minutes: {command(name)} (distill recipes show {name}); or lower {keys}."


def nearest_cpu_recipe(config: Mapping[str, Any]) -> str | None:
    """The combination for a CPU that trains the same kind of module and shares most of its parts."""
    own = _parts(config)
    found = {}
    for name in COMBINATIONS:
        if name.endswith("_cpu"):
            other = _parts(compose([name]).content)
            if other["module"] == own["module"]:
                found[name] = sum(weight for part, weight in _PARTS.items() if own[part] and own[part] == other[part])
    return max(found, key=lambda name: found[name], default=None)


def _parts(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Class of the module and of each part."""
    model = config["model"]
    arguments = model.get("init_args") or {}
    parts = {name: (arguments.get(name) or {}).get("class_path") for name in ("student", "teacher", "head")}
    return {"module": model["class_path"].rpartition(".")[2], "data": config["data"]["class_path"]} | parts
