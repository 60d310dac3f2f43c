"""The weight files that a command needs, without those that its checkpoint replaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from distill.errors import UserError
from distill.launch.cached_teacher import cache_root

_TEACHERS = ("teacher", "targets")  # in no checkpoint


def without_initial_weights(config: Namespace) -> Namespace:
    """A component, to be built for a training checkpoint that holds the weights of everything but the teachers.

    Args:
        config: The parsed `model` group, or a part of it.

    Returns:
        A copy that names no file of initial weights, because those may have been deleted.
    """
    copy = config.clone()
    _forget(copy.get("init_args"), _TEACHERS)
    return copy


def require_teachers(config: Namespace, purpose: str) -> None:
    """Refuses to build teachers whose file does not exist; stored targets do without the main one.

    Args:
        config: The parsed `model` group.
        purpose: What is to be done with the run.

    Raises:
        UserError: There is no such file.
    """
    main, further = (config.init_args.get(name) for name in _TEACHERS)
    teachers = {} if cache_root(config) is not None else {"model.teacher": main}
    teachers |= {f"model.targets[{index}].teacher": target.get("teacher") for index, target in enumerate(further or [])}
    for key, teacher in teachers.items():
        path = teacher.get("init_args", Namespace()).get("checkpoint") if isinstance(teacher, Namespace) else None
        if path is not None and not Path(path).is_file():
            way_out = f"--{key}.checkpoint FILE" if key == "model.teacher" else "--model.targets, the whole list,"
            raise UserError(
                f"{key}.checkpoint: there is no file {path}; {purpose} needs the teacher, which is in no "
                f"checkpoint of the run: pass {way_out} with the same weights"
            )


def _forget(node: Any, kept: Sequence[str] = ()) -> None:
    """Sets every `checkpoint` below a node to None, `decoder_checkpoint` and the like included, but not in `kept`."""
    if isinstance(node, Namespace | dict):
        items = vars(node) if isinstance(node, Namespace) else node
        for key, value in list(items.items()):
            if key.endswith("checkpoint") and isinstance(value, str):
                node[key] = None
            elif key not in kept:
                _forget(value)
