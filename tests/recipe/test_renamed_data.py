"""Old names of the data modules' keys are read, and the new ones are keys that the modules take."""

from typing import Any

import pytest

from distill.launch.parse import ParsedRecipe
from distill.recipe.renamed import KEYS, current
from distill.recipe.signatures import class_names, lineage, parameters

MODULES = [f"distill.data.{name}" for name in class_names("distill.data") or ()]


@pytest.mark.parametrize("path", MODULES)
def test_new_names_are_keys_and_old_ones_are_not(path: str) -> None:
    found = {old: new for owner, names in KEYS.items() if owner in lineage(path) for old, new in names.items()}
    assert found
    known = parameters(path) or {}
    for old, new in found.items():
        assert new in known
        assert old not in known


def test_old_recipes_are_read() -> None:
    said: list[str] = []
    folder = {"class_path": "distill.data.ImageFolder", "init_args": {"root": "x", "scale": [0.5, 1.0]}}
    assert current({"data": folder}, None, said)["data"]["init_args"] == {"root": "x", "crop_area": [0.5, 1.0]}
    cover: dict[str, Any] = {
        "class_path": "distill.data.DubaiLandCover",
        "init_args": {"scale": [1, 2], "augmentation": {"rotate": True, "contrast": 0.2}},
    }
    read = current(cover, None, said)
    assert read["init_args"] == {"scale_jitter": [1, 2], "augmentation": {"contrast": 0.2}, "turns": True}
    assert said == [
        "scale of distill.data.ImageFolder is called crop_area now",
        "scale of distill.data.DubaiLandCover is called scale_jitter now",
        "augmentation.rotate of distill.data.DubaiLandCover is called turns now",
    ]
    assert cover["init_args"]["augmentation"] == {"rotate": True, "contrast": 0.2}
    assert current(read, None, said) == read
    assert len(said) == 3


@pytest.mark.parametrize(
    "base", [{"class_path": "distill.data.SSDD"}, {"class_path": "distill.data.WHU", "init_args": {}}]
)
def test_old_overrides_are_read(base: dict[str, Any]) -> None:
    said: list[str] = []
    override = {"data": {"augmentation": {"rotate": True}}}
    assert current(override, {"data": base}, said) == {"data": {"turns": True}}
    assert len(said) == 1


@pytest.mark.parametrize(
    ("words", "brightness"),
    [(["--data.augmentation.rotate", "true"], None), (["--data.augmentation={rotate: true, brightness: 0.1}"], 0.1)],
)
def test_a_key_that_left_its_group_overrides_a_recipe(words: list[str], brightness: float | None) -> None:
    arguments = ParsedRecipe.read("fit", ["finetune/mask_rcnn", "data/nwpu", *words]).config.data.init_args
    assert arguments.turns is True
    assert arguments.root == "data/nwpu"
    assert (arguments.augmentation and arguments.augmentation.brightness) == brightness


def test_other_classes_keep_their_keys() -> None:
    given = {"class_path": "mine.Data", "init_args": {"scale": 1, "augmentation": {"rotate": True}}}
    assert current(given, None, []) == given
