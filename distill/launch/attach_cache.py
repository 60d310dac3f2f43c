"""Gives a run its stored targets: checks that they are the recipe's, and has the data's views carry them."""

import shlex
from functools import partial

from distill.errors import UserError
from distill.launch.cache_key import key_of, require_fit
from distill.launch.cached_teacher import build_teacher, cache_root, require_fixed_views
from distill.launch.parse import Built, ParsedRecipe
from distill.recipe.command_line import without
from distill.targets.cache.folder import VALIDATION, CacheFolder
from distill.targets.cache.reader import StoredTargets
from distill.targets.cache.settings import LIVE
from distill.targets.cache.teacher import CachedTeacher

_CACHE = ("model.cache", "model.init_args.cache")
_NOT_OF_A_CACHE = (
    *(*_CACHE, "run", "ckpt_path"),
    *(f"trainer.{key}" for key in ("max_steps", "max_epochs", "max_time", "val_check_interval", "callbacks")),
)


def attach_cache(recipe: ParsedRecipe, built: Built) -> None:
    """Attaches stored targets to the views of a run whose recipe names a cache; else does nothing.

    Args:
        recipe: The recipe.
        built: What was built of it; its data is set up.

    Raises:
        UserError: The cache does not fit the recipe, or is not complete.
    """
    teacher, root = built.task.teacher, cache_root(recipe.config.model)
    if root is None or not isinstance(teacher, CachedTeacher):
        return
    splits = ("train", "val") if recipe.stage == "fit" else ("val",)
    if "train" in splits:
        require_fixed_views(recipe.config.data)
    folder, info, command = CacheFolder(root), teacher.info, cache_command(recipe)
    require_fit(info, key_of(recipe.config, built.task, built.data, splits), root, command)
    missing = [shard for _, shard in folder.missing(info) if "train" in splits or shard.view == VALIDATION]
    if missing:
        raise UserError(
            f"model.cache.root {root} lacks {len(missing)} of {len(list(info.shards()))} files, the first "
            f"{missing[0].name}; go on with `{command} --out {root}`"
        )
    policy = recipe.config.model.init_args.cache.on_mismatch
    if policy == LIVE:
        teacher.build_teacher = partial(build_teacher, recipe.config.model.clone())
    for split in splits:
        views = built.data.dataset(split)
        views.addition = StoredTargets(folder, info, views, split == "val", policy, f"`{command}`")


def cache_command(recipe: ParsedRecipe) -> str:
    """The command that makes a cache for a recipe."""
    overrides = shlex.join(without(recipe.words, *_NOT_OF_A_CACHE))
    return f"distill cache {recipe.recipe} {overrides}".strip()


def use_command(recipe: ParsedRecipe, folder: CacheFolder) -> str:
    """The command that fits a recipe on its cache."""
    overrides = shlex.join([*without(recipe.words, *_CACHE), "--model.cache.root", str(folder)])
    return f"distill fit {recipe.recipe} {overrides}"
