"""The text of `distill fit RECIPE --help`: the keys of the recipe's classes, read from their sources."""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.recipe.check import RUN, TRAINER, TRAINER_DEFAULTS
from distill.recipe.command_line import merged
from distill.recipe.compose import Recipe
from distill.recipe.find import summary
from distill.recipe.signatures import Parameter, parameters, purpose

# Of Lightning's keys those that runs change; `--help-all` has the others.
_TRAINER_KEYS = (
    "max_steps", "max_epochs", "val_check_interval", "limit_val_batches", "precision", "accelerator", "devices",
    "accumulate_grad_batches", "gradient_clip_val", "callbacks",
)  # fmt: skip
_INDENT = 38


def help_text(stage: str, recipe: Recipe | None = None, words: Sequence[str] = ()) -> str:
    """The help of a verb: with a recipe, all keys of the classes that it names.

    Args:
        stage: fit, validate or test.
        recipe: The recipe.
        words: Overrides on the command line, which change what is shown.
    """
    run = "a run folder, to score it" if stage != "fit" else "or a run folder, to resume it with --ckpt_path last"
    lines = [f"usage: distill {stage} RECIPE [RECIPE ...] [--key value ...]", ""]
    tree = merged(recipe, words) if recipe is not None else {}
    if recipe is None:
        lines += _wrapped(
            f"RECIPE is a YAML file, the name of a recipe that comes with the package (`distill recipes`), {run}. "
            "Of several recipes, such as a method, a data set and a size, later ones go over earlier ones. "
            f"`distill {stage} RECIPE --help` lists the keys of the model and the data that the recipe names.",
            "",
        )
    else:
        lines += [f"{recipe}", *(_wrapped(summary(recipe.file), "  ") if recipe.file else ())]
        lines += ["", "Values are those of the recipe; in parentheses, defaults that it leaves as they are."]
    for name in ("model", "data"):
        if isinstance(tree.get(name), dict):
            lines += ["", *_component(name, tree[name])]
    lines += ["", "trainer: Lightning's, of which these are changed most", *_trainer(tree.get("trainer") or {})]
    lines += ["", "run", *_group("run", tree.get("run") or {}, parameters(RUN) or {})]
    lines += [
        "",
        "others",
        *_row("--seed_everything", tree, "seed_everything", "0", "Seed of weights, order and views."),
    ]
    lines += _row(
        "--ckpt_path", tree, "ckpt_path", "null", "Checkpoint to go on from, or to score: last, best or a file."
    )
    lines += _entry("--print_config", "Print the whole recipe, every default filled in, and stop.")
    lines += _entry("--help-all", "Every key of Lightning as well.")
    return "\n".join(lines)


def _component(key: str, node: Mapping[str, Any]) -> Iterator[str]:
    path = str(node.get("class_path"))
    yield f"{key}: {path}  {purpose(path)}".rstrip()
    yield from _arguments(key, node)


def _arguments(key: str, node: Mapping[str, Any], supplied: int = 0) -> Iterator[str]:
    known = parameters(str(node.get("class_path")))
    given = node.get("init_args") or {}
    yield from _group(key, given, dict(list(known.items())[supplied:]) if known else {})


def _group(key: str, given: Mapping[str, Any], known: Mapping[str, Parameter]) -> Iterator[str]:
    """Keys of one class or dataclass, those below them included."""
    for name, parameter in known.items():
        dotted, value = f"--{key}.{name}", given.get(name)
        settings = next((kind.settings for kind in parameter.types if kind.kind == "settings"), None)
        component = next((kind for kind in parameter.types if kind.kind == "component"), None)
        if settings:
            yield from _group(f"{key}.{name}", value if isinstance(value, dict) else {}, parameters(settings) or {})
        elif component is not None and isinstance(value, dict):
            path = str(value.get("class_path"))
            yield from _entry(f"{dotted} {path}", purpose(path))
            yield from _arguments(f"{key}.{name}", value, component.supplied)
        else:
            yield from _row(dotted, given, name, parameter.default, parameter.description)


def _trainer(given: Mapping[str, Any]) -> Iterator[str]:
    known = parameters(TRAINER) or {}
    for name in dict.fromkeys((*_TRAINER_KEYS, *given)):
        if name in known:
            default = repr(TRAINER_DEFAULTS[name]) if name in TRAINER_DEFAULTS else known[name].default
            yield from _row(f"--trainer.{name}", given, name, default, known[name].description)


def _row(dotted: str, given: Mapping[str, Any], name: str, default: str | None, description: str) -> Iterator[str]:
    value = "VALUE (needed)" if default is None else f"({_default(default)})"
    if name in given:
        value = _text(given[name])
    yield from _entry(f"{dotted} {value}", description)


def _entry(left: str, description: str) -> list[str]:
    """An option and the first sentence about it, the latter on lines of its own where the option is long."""
    sentence = re.split(r"(?<=[^.])\. ", description.replace("``", "`"))[0].rstrip(".")
    if not sentence:
        return [f"  {left}"]
    lines = _wrapped(sentence, " " * _INDENT)
    if len(left) + 4 <= _INDENT:
        return [f"  {left}".ljust(_INDENT) + lines[0].strip(), *lines[1:]]
    return [f"  {left}", *lines]


def _wrapped(text: str, indent: str) -> list[str]:
    width = min(120, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, max(width, 2 * _INDENT), initial_indent=indent, subsequent_indent=indent)


def _default(source: str) -> str:
    try:
        value = ast.literal_eval(source)
    except ValueError:  # made by a call
        return source
    return _text(list(value) if isinstance(value, tuple) else value)


def _text(value: Any) -> str:
    """A value as one writes it on the command line."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("\n...\n").strip()
