"""The key of a cache: everything that a recipe's targets depend on, in the order of reported differences."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from distill.data.views.folder import FolderViews
from distill.errors import UserError
from distill.targets.cache.folder import CacheInfo
from distill.targets.cache.key import FORMAT, canonical, file_facts, first_difference
from distill.targets.cache.teacher import CachedTeacher

# Arguments of data modules that decide which images there are, which the key tells by their names and sizes, or in
# which order and how fast they come; and those that the key has under names of their own.
_NO_VIEWS = (
    *("root", "val_root", "val_fraction", "val_limit", "train_limit", "train_fraction"),
    *("batch_size", "num_workers", "on_error", "shuffle", "seed", "views", "sizes"),
)
_HINTS = {
    "seed": "runs of several seeds share a cache if data.seed is set, which by default is the seed of the run",
    "views": "set data.views",
    "precision": "set trainer.precision",
    "teacher.precision": "set model.teacher.precision",
    "dtype": "set model.target_dtype",
}


def key_of(config: Namespace, task: Any, data: Any, splits: Sequence[str]) -> dict[str, Any]:
    """The key of a cache for a recipe.

    Args:
        config: The parsed recipe, which names the teacher itself.
        task: The built distillation. Its teacher may be a stand-in.
        data: The data module.
        splits: Of "train" and "val", those whose images count.

    Raises:
        UserError: The data's samples are not of images alone.
    """
    teacher = task.teacher
    stored = teacher.info.weights if isinstance(teacher, CachedTeacher) else None
    weights = weights_file(config.model, stored)
    given = config.model.init_args.teacher
    key: dict[str, Any] = {
        "format": FORMAT,
        "teacher": {
            "class": given.class_path,
            "arguments": _plain(_without_files(given.get("init_args", Namespace()))),
            "weights": None if weights is None else weights["digest"],
            "digest": teacher.digest,
            "precision": teacher.precision,
        },
        "targets": {
            name: {"view": list(view), "shown": list(shown)}
            for name, (view, shown) in sorted(target_views(task, data.image_size).items())
        },
        "dtype": config.model.init_args.target_dtype,
        "precision": str(config.trainer.precision or "32-true"),
        "data": {
            "class": config.data.class_path,
            "arguments": _plain(
                {
                    name: value
                    for name, value in vars(config.data.get("init_args", Namespace())).items()
                    if name not in _NO_VIEWS and value is not None
                }
            ),
        },
    }
    if "train" in splits:
        key |= {"seed": data.seed, "views": data.view_pool}
    key["images"] = {
        split: {"count": len(data.dataset(split)), "digest": _images(data, split)}
        for split in splits
        if len(data.dataset(split))
    }
    return key


def target_views(task: Any, size: int) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
    """How the teacher sees a view, for each stored target; see `LiveTargets.views`.

    Raises:
        UserError: Two targets have the same name and other views.
    """
    found: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
    for one in task.stored_targets:
        views = one.views(size, size)
        if found.setdefault(one.stored_name, views) != views:
            raise UserError(
                f"two targets take {one.stored_name!r} of views of {found[one.stored_name][0]} and {views[0]} px, as "
                "maps of other strides match it; give one of them an image_size, by which a cache tells them apart"
            )
    return found


def weights_file(model: Namespace, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Identifies the file of the teacher's weights, as `distill.targets.cache.key.file_facts` does.

    Args:
        model: The recipe's `model` group.
        known: What the cache says of it. A file that has been deleted since, which a cache does without, is taken for
            that one.

    Returns:
        None for a teacher without a file.
    """
    path = model.init_args.teacher.get("init_args", Namespace()).get("checkpoint")
    if path is None:
        return None
    return file_facts(Path(path), known) if Path(path).is_file() else known


def require_fit(info: CacheInfo, wanted: dict[str, Any], root: str, command: str) -> None:
    """Refuses a cache whose targets are not the recipe's.

    Args:
        info: Of the cache.
        wanted: The recipe's key, or the part of it that counts.
        root: Folder of the cache.
        command: Makes a fitting cache.

    Raises:
        UserError: A field of the key differs; the first is told.
    """
    if difference := first_difference(info.key, wanted):
        name, stored, asked = difference
        hint = f" ({_HINTS[name]})" if name in _HINTS else ""
        raise UserError(
            f"model.cache.root {root} does not fit the recipe: {name} is {stored} in the cache, and {asked} in the "
            f"recipe{hint}; make a fitting cache with `{command}`, or set model.cache.root to null"
        )


def _images(data: Any, split: str) -> str:
    """Identifies the images of a split by names and sizes, in their order: views depend on their image's number."""
    views = data.dataset(split)
    if not isinstance(views, FolderViews):
        raise UserError(
            f"data is {type(data).__name__}, whose samples carry labels; a cache is of images alone, as of "
            "distill.data.ImageFolder: use that, or set model.cache.root to null"
        )
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(views)):
        digest.update(f"{canonical(data.scored(views, index))}\n".encode())
    return digest.hexdigest()


def _without_files(arguments: Any) -> dict[str, Any]:
    """Arguments of a teacher but for its files of weights, which may lie anywhere."""
    return {
        name: _without_files(value) if isinstance(value, Namespace | dict) else value
        for name, value in (vars(arguments) if isinstance(arguments, Namespace) else arguments).items()
        if not name.endswith("checkpoint") and value is not None
    }


def _plain(value: Any) -> Any:
    """What JSON has of a parsed value, so that it equals what comes back from the disk."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
