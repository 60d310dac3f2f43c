"""What holds for every data module: the base's contract, and docs/data.md, whose table and example are checked here."""

import ast
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from distill.data import CocoInstances, ImageFolder, SemanticFolder
from distill.data.base import ImageData
from distill.errors import UserError
from distill.recipe.signatures import parameters
from distill.synthetic.scenes import CLASS_NAMES
from tests.data.landcover import folder, write
from tests.data.modules import instances
from tests.data.published import save, scene

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
MODULES = (ImageFolder, CocoInstances, SemanticFolder)


def keys_of(module: type) -> dict[str, Any]:
    """Defaults of a module's keys."""
    found = parameters(f"distill.data.{module.__name__}") or {}
    return {name: parameter.default for name, parameter in found.items()}


def documented() -> dict[str, list[str]]:
    """Rows of the table of keys: the defaults of the three modules by key."""
    table = PAGE.partition("## Keys of the data modules")[2].partition("\n- ")[0]
    rows: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            names, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            for position, name in enumerate(re.findall(r"`(\w+)`", names)):
                single = "`, `" not in names
                rows[name] = [cell if single or not cell else cell.split(", ")[position] for cell in cells]
    return rows


@pytest.mark.parametrize("key", documented())
def test_the_table_of_keys_says_the_defaults(key: str) -> None:
    words = {"true": True, "false": False, "null": None, "as `flip`": None, "skip": "skip", "full": "full"}
    for module, cell in zip(MODULES, documented()[key], strict=True):
        known = keys_of(module)
        assert (key in known) == bool(cell), module
        if cell:
            default = ast.literal_eval(known[key])
            assert (list(default) if isinstance(default, tuple) else default) == (
                words[cell] if cell in words else ast.literal_eval(cell)
            )


def test_the_table_has_every_key_that_modules_share() -> None:
    shared = [key for key in keys_of(CocoInstances) if sum(key in keys_of(module) for module in MODULES) > 1]
    assert set(shared) - {"classes"} <= documented().keys()  # names alone, or names and values in masks


def test_the_example_of_a_data_set_reads_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = PAGE.partition("```python\n")[2].partition("```")[0]
    assert len(block.splitlines()) < 60
    (tmp_path / "my_fields.py").write_text(block)  # the parser reads the source of a class
    monkeypatch.syspath_prepend(tmp_path)
    for split in ("train", "val", "test"):
        for number in range(3):
            save(scene(number), tmp_path / split / f"rgb/{number}.png")
            labels = np.random.default_rng(number).integers(0, 3, (48, 64), dtype=np.uint8)
            save(Image.fromarray(labels), tmp_path / split / f"labels/{number}.png")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(resolve_name("my_fields.Fields"), "data")
    given = {"root": str(tmp_path), "image_size": 32, "batch_size": 2, "num_workers": 0, "turns": True}
    data = parser.instantiate_classes(parser.parse_object({"data": given})).data
    assert next(iter(data.train_dataloader()))["label"].shape == (2, 32, 32)
    assert sum(len(part["image"]) for batch in data.test_dataloader() for part in batch) == 3
    assert data.class_names == ["field", "water"]


def test_every_module_keeps_the_contract(tmp_path: Path, scenes: Path) -> None:
    unlabelled = ImageFolder(str(scenes / "train/images"), image_size=64, num_workers=0)
    modules: list[tuple[ImageData, list[str], bool]] = [
        (unlabelled, [], False),
        (instances(scenes, "test"), list(CLASS_NAMES), True),
        (folder(write(tmp_path, False)), ["red", "green", "blue"], True),
    ]
    for data, names, selects_on_test in modules:
        assert data.class_names == names
        assert data.selects_on_test == selects_on_test
        assert data.image_size in (16, 64)
        for stage in ("fit", "validate"):
            data.setup(stage)
        assert data.dataset("train") is data.dataset("train")
        assert len(data.dataset("val")) > 0
        assert data.skipped == []
        with pytest.raises(UserError, match="unknown split 'vla': did you mean val"):
            data.dataset("vla")
    with pytest.raises(UserError, match=r"unknown split 'test': .*valid names are train, val"):
        unlabelled.dataset("test")
