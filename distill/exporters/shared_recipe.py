"""The recipe of a run as it is shared: what determined the training, without places and names of the machine."""

from collections.abc import Mapping
from typing import Any

from distill.recipe.signatures import OWN
from distill.recipe.untrusted import FACTS, PARTS
from distill.runs.places import without_places

_SECTIONS = ("seed_everything", "trainer", "model", "data")  # not `run`, whose folders and accounts are the user's
_PRIVATE = ("logger", "default_root_dir")  # of the trainer: accounts and folders, too


def shared_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe for others.

    Of a file its name is left, of a folder nothing. Components of other packages, such as callbacks of Lightning, are
    left out: nobody else needs them, and a model that is built of them cannot be shared
    (`distill.recipe.untrusted.checked` says so).

    Args:
        recipe: As the run folder has it.
    """
    kept = {key: recipe[key] for key in _SECTIONS if key in recipe}
    trainer = {key: value for key, value in (recipe.get("trainer") or {}).items() if key not in _PRIVATE}
    kept["trainer"] = _without_foreign(trainer)
    model = recipe["model"]
    given = model.get("init_args") or {}
    arguments = {key: value if key in PARTS else _without_foreign(value) for key, value in given.items()}
    kept["model"] = {**model, "init_args": arguments}
    if not _is_own(recipe["data"]):
        given = recipe["data"].get("init_args") or {}
        kept["data"] = {"init_args": {key: given[key] for key in FACTS if key in given}}
    shared: dict[str, Any] = without_places(kept)
    return shared


def _without_foreign(node: Any) -> Any:
    if isinstance(node, Mapping):
        if "class_path" in node and not _is_own(node):
            return None
        return {key: _without_foreign(value) for key, value in node.items()}
    if isinstance(node, list):
        return [value for value in map(_without_foreign, node) if value is not None]
    return node


def _is_own(component: Mapping[str, Any]) -> bool:
    return str(component.get("class_path")).partition(".")[0] in OWN
