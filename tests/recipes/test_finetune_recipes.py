"""The fine-tuning recipes take real steps, and select on other images than they report.

On real images where they are there, else on generated files in the published layouts; those for a GPU with small images
and a small student.
"""

import csv
import math
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from distill import FineTuningModule
from distill.cli import main
from distill.curate.prepare import prepare
from distill.data import CocoInstances
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.weights import read_state_dict
from students import RS4D
from tests.data.published import SHARED, nwpu_texts, ssdd_voc, whu_tiles, yolo

RECIPES = [name.removeprefix("finetune/") for name in COMBINATIONS if name.startswith("finetune/")]
# Every head with every data set once, in turn at the size for a GPU and for CPUs.
# That all of them are what they are said to be is in test_combinations.py, and that they parse in test_recipes.py.
STEPPED = ["nwpu_mask_rcnn_cpu", "nwpu_cascade", "nwpu_prompt_cpu", "ssdd_mask_rcnn", "ssdd_cascade_cpu", "ssdd_prompt"]
STEPPED += ["whu_mask_rcnn_cpu", "whu_cascade", "whu_prompt_cpu"]
REPORTED = {
    "nwpu": "annotations/val.json",
    "ssdd": "annotations/official/test.json",
    "whu": "annotations/test.json",
}
LAYOUTS: dict[str, Callable[[Path], Path]] = {"nwpu": nwpu_texts, "ssdd": ssdd_voc, "whu": whu_tiles}
FEW = ["--data.train_limit=4", "--data.batch_size=1", "--data.num_workers=0", "--trainer.max_steps=2"]
# Without warm-up and decay one step moves what has a gradient, and nothing else.
MOVING = ["--model.optim.warmup_steps=0", "--model.optim.weight_decay=0", "--trainer.log_every_n_steps=1"]
# At 64 px the airplanes of a real image are too small for any anchor, and the regression of boxes has no gradient.
SIDES = ["--data.image_size=128", "--model.student.image_size=128"]
NARROW = ["--model.student.variant=tiny", "--model.head.fc_channels=64", "--model.head.roi_samples=32"]


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A prepared folder of each data set."""
    folder = tmp_path_factory.mktemp("published")
    made = {name: prepare(name, write(folder / name), folder / "data" / name).root for name, write in LAYOUTS.items()}
    return made | ({"nwpu": SHARED / "nwpu"} if (SHARED / "nwpu").is_dir() else {})


def read(name: str) -> dict[str, Any]:
    return compose([f"finetune/{name}"]).content


def smaller(name: str) -> list[str]:
    """Overrides that make a recipe quick."""
    narrow = [] if name.endswith("_cpu") else NARROW
    decoder = ["--model.head.decoder_channels=64"] if name.endswith("_prompt") else []
    return [*FEW, *SIDES, *narrow, *decoder, "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu"]


def fit(name: str, root: Path, folder: Path, *overrides: str) -> None:
    """Trains; then losses are numbers, and what has gradients has moved, in the student as in neck and head."""
    before: dict[str, torch.Tensor] = {}

    def remember(module: FineTuningModule) -> None:
        before.update({key: p.detach().clone() for key, p in module.named_parameters() if p.requires_grad})

    words = [f"--data.root={root}", f"--run.dir={folder}", *smaller(name), *MOVING, *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuningModule, "on_train_start", remember)
        assert main(["fit", f"finetune/{name}", *words]) == 0
    with (folder / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    losses = [value for row in rows for key, value in row.items() if key.startswith("train/") and "loss" in key]
    assert len([row for row in rows if "train/loss" in row]) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert all(row["train/loss"] > 0 for row in rows if "train/loss" in row)
    after = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    for part in ("student.", "head.neck.", "head.rpn_head.", "head.roi_head."):
        moved = {key: not torch.equal(after[key], start) for key, start in before.items() if key.startswith(part)}
        still = [key for key, has in moved.items() if not has]
        assert len(still) < 0.1 * len(moved), f"{name}: still are {still}"
    written = read_state_dict(folder / "student.safetensors")
    assert all(torch.equal(tensor, after[f"student.{key}"]) for key, tensor in written.items())


@pytest.mark.parametrize("name", STEPPED)
def test_recipe_takes_real_steps(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    fit(name, roots[name.split("_")[0]], tmp_path / "run")


def test_ssdd_on_its_real_samples(tmp_path: Path) -> None:
    if not (SHARED / "ssdd").is_dir():
        pytest.skip("needs the samples of SSDD in ../shared/data/ssdd")
    root = prepare("ssdd", SHARED / "ssdd", tmp_path / "ssdd", on_error="skip").root
    fit("ssdd_mask_rcnn_cpu", root, tmp_path / "run", "--data.val_fraction=0")  # one image cannot be divided
    assert main(["test", str(tmp_path / "run")]) == 0


def test_whu_on_its_real_samples(tmp_path: Path) -> None:
    if not (SHARED / "whu").is_dir():
        pytest.skip("needs the samples of WHU in ../shared/data/whu")
    for split, given in (("train", "train"), ("val", "val"), ("test", "val")):
        for number in range(2):
            for kind, folder in (("image", "images"), ("label", "labels")):
                target = tmp_path / f"source/{split}/{kind}/{split}_{number}.tif"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(SHARED / f"whu/{folder}/{given}_{number}.tif", target)
    root = prepare("whu", tmp_path / "source", tmp_path / "whu").root
    fit("whu_mask_rcnn_cpu", root, tmp_path / "run")
    assert main(["test", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("name", [f"{data}_mask_rcnn" for data in REPORTED])
def test_what_selects_is_neither_trained_on_nor_reported(name: str, roots: dict[str, Path]) -> None:
    part = name.split("_")[0]
    given = read(name)["data"]
    module, _, class_name = given["class_path"].rpartition(".")
    data = getattr(import_module(module), class_name)(**given["init_args"] | {"root": str(roots[part])})
    assert isinstance(data, CocoInstances)
    assert not data.selects_on_test
    assert data.sources["test"][1] == str(roots[part] / REPORTED[part])
    files = {split: {image["file_name"] for image in data.dataset(split).images} for split in ("train", "val", "test")}
    assert all(files.values())
    assert not files["val"] & files["train"]
    assert not files["test"] & (files["train"] | files["val"])


@pytest.mark.parametrize("variant", ["base", "large", "huge"])
@pytest.mark.parametrize("name", ["finetune/mask_rcnn", "finetune/prompt"])
def test_the_other_sizes_of_a_recipe(name: str, variant: str) -> None:
    given = compose([name]).content["model"]["init_args"]["student"]
    assert given["class_path"] == "students.RS4D"
    with torch.device("meta"):
        assert RS4D(**given["init_args"] | {"variant": variant}).feature_info.channels()


def test_the_taps_of_rs4ds_large() -> None:
    with torch.device("meta"):
        assert RS4D("large", out_indices=[2, 8, 14, 20, 26]).feature_info.channels() == [256] * 6


def test_a_data_set_of_ones_own_is_prepared_cut_and_trained_on(tmp_path: Path) -> None:
    whole = prepare("yolo", yolo(tmp_path / "source"), tmp_path / "whole").root
    words = ["--annotations", str(whole), "--out", str(tmp_path / "tiles"), "--tile", "40", "--empty", "1"]
    assert main(["data", "tile", *words]) == 0
    words = [f"--data.root={tmp_path / 'tiles'}", f"--run.dir={tmp_path / 'run'}", *FEW, *SIDES, *NARROW]
    words += ["--trainer.limit_val_batches=0", "--trainer.accelerator=cpu"]
    assert main(["fit", "finetune/mask_rcnn", "data/prepared", *words]) == 0
    assert (tmp_path / "run/summary.json").is_file()
