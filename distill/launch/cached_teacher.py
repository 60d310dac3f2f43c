"""Replaces a teacher whose targets are stored, so that it is not built."""

from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from distill.contracts import TeacherBase
from distill.errors import UserError
from distill.targets.cache.teacher import CachedTeacher

_STAND_IN = f"{CachedTeacher.__module__}.{CachedTeacher.__qualname__}"


def cache_root(model: Namespace) -> str | None:
    """The folder of stored targets that a recipe's `model` group names, if any."""
    cache = model.get("init_args", Namespace()).get("cache")
    return None if cache is None else cache.root


def with_cached_teacher(model: Namespace) -> Namespace:
    """The `model` group; where it names a cache, a copy whose teacher is the stand-in.

    Args:
        model: The parsed group.

    Raises:
        UserError: There is no such cache.
    """
    root = cache_root(model)
    if root is None:
        return model
    copy = model.clone()
    copy.init_args.teacher = Namespace(class_path=_STAND_IN, init_args=Namespace(root=root))
    return copy


def build_teacher(model: Namespace) -> TeacherBase:
    """The teacher itself, for views that are not stored. Random numbers of the run stay as they are."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TeacherBase, "teacher")
    with torch.random.fork_rng(devices=[]):
        built: Any = parser.instantiate_classes(parser.parse_object({"teacher": model.init_args.teacher.as_dict()}))
    teacher: TeacherBase = built.teacher
    return teacher


def require_fixed_views(data: Namespace) -> None:
    """Refuses settings under which views are not those of a pool.

    Args:
        data: The recipe's `data` group.

    Raises:
        UserError: There is no pool of views, or the size of views changes.
    """
    given = data.get("init_args", Namespace())
    if given.get("views") is None:
        raise UserError(
            "data.views is null: every epoch shows new views, whose targets cannot be stored; set the size of a pool, "
            "for example --data.views 4"
        )
    if given.get("sizes") is not None:
        raise UserError(
            "data.sizes changes the size of views during training, and a cache has targets of one size; remove "
            "data.sizes, or set model.cache.root to null"
        )
