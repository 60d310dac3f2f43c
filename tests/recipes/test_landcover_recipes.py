"""The land-cover recipes take real steps, on real images where they are there, and report on other images."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.cli import main
from distill.data import SemanticFolder
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from tests.data.published import SHARED, scene

RECIPES = ["landcover/aras400k_lale", *(name for name in COMBINATIONS if name.startswith("landcover/"))]
COLOURS = np.array(  # of the classes of ARAS400k
    [[0, 100, 0], [255, 182, 193], [154, 205, 50], [255, 215, 0], [139, 69, 19], [211, 211, 211], [0, 0, 255]], np.uint8
)
SMALL = [
    "--data.train_limit=2",
    "--data.image_size=64",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--trainer.max_steps=2",
    "--trainer.limit_val_batches=0",
    "--trainer.accelerator=cpu",
]


def read(name: str) -> dict[str, Any]:
    return compose([name]).content


@pytest.fixture(scope="session")
def aras400k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aras400k")
    for number, split in enumerate(("train", "val", "test")):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for tile in range(2):
            image = scene(10 * number + tile, 64, 64)
            image.save(root / split / f"images/{tile}.png")
            Image.fromarray(COLOURS[np.asarray(image)[..., 0] // 40]).save(root / split / f"masks/{tile}.png")
    return root


def root_of(name: str, aras400k: Path) -> Path:
    if "aras400k" in name:
        return aras400k
    if not (SHARED / "landcover").is_dir():
        pytest.skip("needs the land-cover images in ../shared/data/landcover")
    return SHARED / "landcover"


# Those that need the run of another recipe first are in test_logit_recipes.py.
@pytest.mark.parametrize("name", [name for name in RECIPES if "teacher" not in read(name)["model"]["init_args"]])
def test_recipe_takes_real_steps(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("aras400k" if "aras400k" in name else "landcover")
    words = [f"--data.root={root}", f"--run.dir={tmp_path / 'run'}", *SMALL]
    assert main(["fit", name, *words]) == 0
    assert main(["test", str(tmp_path / "run"), "--trainer.limit_test_batches=1"]) == 0
    assert (tmp_path / "run" / "test_classes.csv").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_what_selects_is_not_reported(name: str, aras400k: Path) -> None:
    recipe = read(name)
    given = recipe["data"]
    module, _, class_name = given["class_path"].rpartition(".")
    data = getattr(import_module(module), class_name)(
        **given["init_args"] | {"root": str(root_of(name, aras400k)), "augmentation": None}
    )
    assert isinstance(data, SemanticFolder)
    trained, tested = ({pair.image for pair in data.dataset(split).pairs} for split in ("train", "test"))
    assert not trained & tested
    if data.selects_on_test:
        assert recipe["trainer"]["limit_val_batches"] == 0  # then nothing is selected
