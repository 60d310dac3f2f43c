"""Every named combination is the recipe that its file held before recipes composed, key by key."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cli import main
from distill.recipe.check import RUN, TRAINER, TRAINER_DEFAULTS
from distill.recipe.combinations import COMBINATIONS, command
from distill.recipe.compose import compose, merge, nested
from distill.recipe.find import shipped
from distill.recipe.signatures import parameters

ROOT = Path(__file__).parents[2]
# Dotted keys and values of the files of the version before, nothing filled in, but for the loss and the corruption of
# distillations: these follow the study in docs/distillation.md.
BEFORE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("before_composition.json").read_text("utf-8"))


def complete(value: Any, owner: str = "") -> Any:
    """A part of a recipe with the defaults of its classes filled in."""
    if isinstance(value, list):
        return [complete(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_path" in value:
        return {"class_path": value["class_path"], **complete(value.get("init_args", {}), value["class_path"])}
    known = (parameters(owner) or {}) if owner else {}
    filled = {}
    for name in known.keys() | value.keys():
        settings = next((kind.settings for kind in known[name].types if kind.settings), "") if name in known else ""
        if name in value:
            filled[name] = complete(value[name], settings)
        else:
            default = TRAINER_DEFAULTS[name] if owner == TRAINER and name in TRAINER_DEFAULTS else None
            filled[name] = default if default is not None else yaml.safe_load(known[name].default or "null")
            if filled[name] in ("None", "(0.9, 0.95)"):
                filled[name] = None if filled[name] == "None" else [0.9, 0.95]
    return filled


@pytest.mark.parametrize("name", BEFORE)
def test_a_combination_is_what_its_file_was(name: str) -> None:
    before: dict[str, Any] = {}
    for key, value in BEFORE[name].items():
        merge(before, nested(key, value), [])
    now = compose([name]).content
    for group, owner in (("model", ""), ("data", ""), ("trainer", TRAINER), ("run", RUN)):
        assert complete(now.get(group, {}), owner) == complete(before.get(group, {}), owner), group
    assert now["seed_everything"] == before["seed_everything"] == 0


def test_every_file_is_a_combination() -> None:
    assert COMBINATIONS.keys() >= BEFORE.keys()
    assert not COMBINATIONS.keys() & shipped().keys()


def test_a_name_runs_where_its_file_did_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("finetune/nwpu_mask_rcnn_cpu", "recipes/finetune/nwpu_mask_rcnn_cpu.yaml", "nwpu_mask_rcnn_cpu"):
        recipe = compose([given])
        assert recipe.path.stem == "nwpu_mask_rcnn_cpu"
        (note,) = recipe.notes
        assert note == f"finetune/nwpu_mask_rcnn_cpu is short for: {command('finetune/nwpu_mask_rcnn_cpu')}"
    main(["fit", "finetune/nwpu_mask_rcnn_cpu", "--modle=1"])
    assert capsys.readouterr().err.splitlines()[0] == f"distill: {note}"


@pytest.mark.parametrize("name", COMBINATIONS)
def test_its_command_composes_the_same(name: str) -> None:
    words = command(name).removeprefix("distill fit ").split()
    recipe = compose([word for word in words if not word.startswith("--")])
    tree = recipe.content
    for word in words:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            merge(tree, nested(key, yaml.safe_load(value)), [])
    assert tree == compose([name]).content


def test_no_recipe_is_another_but_for_one_key() -> None:
    flat = {name: dict(_flat(compose([name]).content)) for name in shipped()}
    for one in flat:
        for other in flat:
            if one < other:
                keys = flat[one].keys() | flat[other].keys()
                assert len([key for key in keys if flat[one].get(key) != flat[other].get(key)]) > 1, (one, other)


def test_docs_list_every_piece_and_every_combination() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name in COMBINATIONS:
        assert f"`{name}`" in text, name
    for name in shipped():
        assert f"`{name}`" in text, name


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
