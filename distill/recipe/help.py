"""The text of `distill fit RECIPE --help`: the keys that are changed most, and with `--help-all` every key."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distill.recipe.command_line import merged
from distill.recipe.compose import Recipe
from distill.recipe.find import summary
from distill.recipe.keys import GROUPS, Key, component, recipe_keys
from distill.recipe.signatures import purpose

# The keys of `--help`, with what they do in a few words; `--help-all` has the docstrings.
_COMMON = {
    "model.teacher": "frozen model to learn from",
    "model.teacher.name": "its name in timm",
    "model.teacher.checkpoint": "its file of weights",
    "model.target": "the teacher's feature map to reproduce",
    "model.student": "model to train: a class, or the student.safetensors of a run",
    "model.student.variant": "its size",
    "model.student.name": "its name in timm",
    "model.student.checkpoint": "its file of initial weights",
    "model.head": "head for instances, or decoder for land cover",
    "model.optim.lr": "peak learning rate",
    "model.optim.warmup_steps": "steps of linear warm-up from 0",
    "data.root": "folder of the data set",
    "data.val_root": "folder of validation images; by default a share of root",
    "data.train_images": "folder of the training images",
    "data.train_annotations": "their COCO file",
    "data.val_images": "folder of the validation images",
    "data.val_annotations": "their COCO file",
    "data.test_images": "folder of the test images",
    "data.test_annotations": "their COCO file",
    "data.image_size": "side of the views in pixels",
    "data.batch_size": "images per batch and process",
    "data.num_workers": "processes that read images",
    "trainer.max_steps": "steps of training",
    "trainer.val_check_interval": "steps between two validations",
    "trainer.precision": "32-true, bf16-mixed or 16-mixed",
    "trainer.accelerator": "auto, cpu, gpu or mps",
    "trainer.devices": "how many, or a list of indices",
    "run.dir": "run folder; by default runs/ and the recipe's name",
    "run.overwrite": "start over in a folder that holds a run",
    "run.seeds": "a run for each of these seeds, then mean and spread",
    "run.loggers": "dashboards: [wandb], [tensorboard], [mlflow]",
    "seed_everything": "seed of weights, order and views",
    "ckpt_path": "checkpoint to go on from, or to score: last, best or a file",
}
# Those that change a training, not a scoring; and those that are only shown of a recipe.
_OF_TRAINING = ("model.", "trainer.max_steps", "trainer.val_check", "run.overwrite", "run.seeds", "run.loggers")
_OF_RECIPES = ("model.student.name", "model.optim.warmup_steps", "data.val_", "data.test_")
_OTHERS = {
    "seed_everything": ("0", "Seed of weights, order and views."),
    "ckpt_path": ("null", "Checkpoint to go on from, or to score: last, best or a file."),
}
_PRINT_CONFIG = ("--print_config", "print the whole recipe, every default filled in, and stop")
_INDENT = 38
_NARROWEST = 2 * _INDENT
_WIDEST = 120


def help_text(stage: str, recipe: Recipe | None = None, words: Sequence[str] = (), everything: bool = False) -> str:
    """The help of `distill fit`, `validate` or `test`.

    Args:
        stage: fit, validate or test.
        recipe: The recipe, whose values and classes are shown.
        words: Overrides on the command line, which change what is shown.
        everything: Whether every key is shown, each with the first sentence about it, in place of a line for each of
            those that are changed most.
    """
    tree = merged(recipe, words) if recipe is not None else {}
    lines = [f"usage: distill {stage} RECIPE [RECIPE ...] [--key value ...]", ""]
    lines += _about(stage) if recipe is None else _recipe(recipe)
    keys = [key for group in GROUPS for key in recipe_keys(tree, group)] + _others(tree)
    if everything:
        return "\n".join([*lines, *_all(tree, keys), *_entry(*_PRINT_CONFIG)])
    lines += _common(stage, tree, keys, recipe is None)
    lines += _entry(*_PRINT_CONFIG)
    named = "RECIPE" if recipe is None else recipe
    return "\n".join([*lines, "", f"Every key, Lightning's too: distill {stage} {named} --help-all"])


def _about(stage: str) -> list[str]:
    run = "a run folder, to score it" if stage != "fit" else "or a run folder, to resume it with --ckpt_path last"
    return _wrapped(
        f"RECIPE is a YAML file, the name of a recipe that comes with the package (`distill recipes`), {run}. "
        "Of several recipes, such as a method, a data set and a size, later ones go over earlier ones. "
        f"`distill {stage} RECIPE --help` shows the values of a recipe.",
    )


def _recipe(recipe: Recipe) -> list[str]:
    text = summary(recipe.file) if recipe.file is not None else ""
    return [
        _cut(f"{recipe}: {text}" if text else str(recipe)),
        *_wrapped("Values are those of the recipe; in parentheses, defaults that it leaves as they are."),
    ]


def _common(stage: str, tree: Mapping[str, Any], keys: Iterable[Key], without_recipe: bool) -> Iterator[str]:
    """The keys that are changed most, in one line each."""
    found = {key.name: key for key in keys}
    named = [name for name in _COMMON if stage == "fit" or not name.startswith(_OF_TRAINING)]
    if without_recipe:
        named = [name for name in named if not name.startswith(_OF_RECIPES)]
    else:
        needed = [key.name for key in found.values() if key.value is None]
        named = [*(name for name in named if name in found), *(name for name in needed if name not in _COMMON)]
    for group in ("model", "data"):
        own = [_line(name, found.get(name)) for name in named if name.startswith(f"{group}.")]
        if (title := _title(group, tree)) or own:
            yield from ["", _cut(title or group), *own]
    yield from ["", "trainer and run"]
    yield from (_line(name, found.get(name)) for name in named if not name.startswith(("model.", "data.")))


def _line(name: str, key: Key | None) -> str:
    """A key with its value and what it does, in one line."""
    left, text = f"  --{name}", _COMMON.get(name)
    if key is not None:
        left, text = f"{left} {_value(key)}", text or _first_sentence(key.description)
    return _cut(f"{left.ljust(_INDENT - 2)}  {text}")


def _cut(line: str) -> str:
    if len(line) <= _width():
        return line
    return f"{line[: _width() - 4].rpartition(' ')[0].rstrip()} ..."


def _all(tree: Mapping[str, Any], keys: Sequence[Key]) -> Iterator[str]:
    """Every key, with the first sentence about it."""
    titles = {"trainer": "trainer: Lightning's", "run": "run", "": "others"}
    titles |= {group: title for group in ("model", "data") if (title := _title(group, tree))}
    for group in (*GROUPS, ""):
        if group in titles:
            yield from ["", *_wrapped(titles[group])]
        for key in keys:
            if key.name.rpartition(".")[0].split(".")[0] == group:
                yield from _entry(f"--{key.name} {_value(key)}", _first_sentence(key.description))


def _title(group: str, tree: Mapping[str, Any]) -> str:
    """A group with its class and what that is; empty without one."""
    path = str(component(tree, group).get("class_path", ""))
    if not path:
        return ""
    return f"{group}: {path}  {purpose(path)}".rstrip()


def _others(tree: Mapping[str, Any]) -> list[Key]:
    return [
        Key(name, (), str(tree.get(name, default)), name in tree, text) for name, (default, text) in _OTHERS.items()
    ]


def _value(key: Key) -> str:
    if key.value is None:
        return "VALUE (needed)"
    return key.value if key.given else f"({key.value})"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[^.])\. ", text.replace("``", "`"))[0].rstrip(".")


def _entry(left: str, text: str) -> list[str]:
    """An option and what it does, the latter on lines of its own where the option is long."""
    if not text:
        return [f"  {left}"]
    lines = _wrapped(text, " " * _INDENT)
    if len(left) + 4 <= _INDENT:
        return [f"  {left}".ljust(_INDENT) + lines[0].strip(), *lines[1:]]
    return [f"  {left}", *lines]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=indent, subsequent_indent=indent)


def _width() -> int:
    return max(min(_WIDEST, shutil.get_terminal_size().columns), _NARROWEST)
