"""Which keys two recipes differ in."""

from collections.abc import Iterator, Mapping
from typing import Any

# What runs over seeds differ in by design; anything else is named, for example the checkpoint of a student per seed.
_FREE = ("run", "seed_everything", "data.init_args.seed")


def differing(recipes: list[dict[str, Any]]) -> list[str]:
    """Dotted keys whose values differ between recipes, the seed and the run's own settings left out."""
    flat = [settled(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    return [key for key in keys if any(recipe.get(key) != flat[0].get(key) for recipe in flat)]


def settled(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a recipe by dotted keys, the seed and the run's own settings left out."""
    free = tuple(f"{key}." for key in _FREE)
    return {key: value for key, value in flattened(recipe) if not f"{key}.".startswith(free)}


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a recipe, and their values."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
