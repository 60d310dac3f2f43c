"""What may stand at the cursor of a command line: verbs, options, recipes, keys of the recipe on the line, and values.

Nothing here imports PyTorch: every press of the tab key starts a process.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from distill.cli import VERBS
from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.command_line import merged, split
from distill.recipe.find import shipped
from distill.recipe.keys import GROUPS, recipe_keys
from distill.recipe.signatures import Type, class_names

_WITH_OPTIONS = ("cache", "sweep", "mmdet-config")  # beside the keys of the recipe
_OF_RECIPES = ("fit", "validate", "test", *_WITH_OPTIONS)
_OTHERS = ("--seed_everything", "--ckpt_path", "--print_config", "--config")
_HELP = ("--help", "--help-all")
_VALUES = {"ckpt_path": ("last", "best")}


def candidates(before: Sequence[str], word: str) -> list[str]:
    """What may stand at the cursor; nothing where a path belongs.

    Args:
        before: The words between `distill` and the cursor.
        word: What is typed of the word at the cursor.
    """
    if not before:
        found: Iterator[str] = iter((*VERBS, "--help", "--version"))
    elif before[0] in _OF_RECIPES:
        found = _of_recipes(before[0], before[1:], word)
    elif before[0] in VERBS:
        found = _of_parser(before[0], _parser(before[0]), before[1:], word)
    else:
        found = iter(())
    group = word if word.endswith(".") else None  # which is there already
    return [one for one in dict.fromkeys(found) if one.startswith(word) and one != group]


def _of_recipes(verb: str, before: Sequence[str], word: str) -> Iterator[str]:
    """Of a verb that takes recipes, then pairs of key and value."""
    own = _parser(verb) if verb in _WITH_OPTIONS else VerbParser()
    key, equals, _ = word.partition("=")
    last = before[-1] if before else ""
    if word.startswith("-") and equals:
        yield from (f"{key}={value}" for value in _values(key[2:], _tree(before)))
    elif word.startswith("-"):
        yield from (*_HELP, *_options(own), *_OTHERS, *(f"--{group}." for group in GROUPS))
        group = word[2:].partition(".")[0]
        if group in GROUPS and "." in word:
            yield from (f"--{key.name}" for key in recipe_keys(_tree(before), group))
    elif last.startswith("--") and "=" not in last and last not in (*_HELP, *_options(own)):
        yield from _values(last[2:], _tree(before[:-1]))
    elif not any(one.startswith("-") for one in before):
        yield from _recipes()


def _of_parser(verb: str, parser: argparse.ArgumentParser, before: Sequence[str], word: str) -> Iterator[str]:
    """Of a verb with a parser, and of the actions below it."""
    actions = next((one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)), {})
    if before and before[0] in actions:
        yield from _of_parser(verb, actions[before[0]], before[1:], word)
        return
    asked = [action for action in parser._actions if before and before[-1] in action.option_strings]
    if word.startswith("-"):
        yield from (*_HELP, *_options(parser))
    elif asked and asked[0].nargs != 0:
        yield from (str(one) for one in asked[0].choices or ())
    else:
        yield from actions
        for action in parser._actions:
            if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
                yield from (str(one) for one in action.choices or ())
        if verb == "recipes" and not actions:
            yield from _recipes()


def _parser(verb: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = import_module(f"distill.cli.{VERBS[verb][0]}").parser()
    return parser


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))


def _recipes() -> Iterator[str]:
    yield from (*shipped(), *COMBINATIONS)


def _tree(words: Sequence[str]) -> Mapping[str, Any]:
    """The recipe that the words name, as far as they can be read."""
    count = next((place for place, one in enumerate(words) if one.startswith("-")), len(words))
    for given in (words, words[:count]):
        try:
            recipe, overrides = split(given)
            return {} if recipe is None else merged(recipe, overrides)
        except UserError:  # a word that is still wrong
            continue
    return {}


def _values(name: str, tree: Mapping[str, Any]) -> Iterator[str]:
    """What a key may be: classes beside the one that is there, true and false, and words."""
    yield from _VALUES.get(name, ())
    for group in ("model", "data"):
        if name == group:
            module = "distill.data" if group == "data" else "distill"
            ends = "Module" if group == "model" else ""
            yield from (f"{module}.{one}" for one in class_names(module) or () if one.endswith(ends))
    group = name.partition(".")[0]
    for key in recipe_keys(tree, group) if group in GROUPS else ():
        if key.name == name:
            for kind in key.types:
                yield from _of_type(kind, str(key.value))


def _of_type(kind: Type, value: str) -> Iterator[str]:
    if kind.kind == "bool":
        yield from ("true", "false")
    elif kind.kind == "literal":
        yield from map(str, kind.words)
    elif kind.kind == "component" and "." in value:
        module = value.rpartition(".")[0]
        yield from (f"{module}.{one}" for one in class_names(module) or ())
