"""A run on stored targets is the run of the live teacher, or there is one line."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import Namespace
from PIL import Image

from distill.cli import main
from distill.errors import UserError
from distill.launch.cached_teacher import require_fixed_views
from distill.weights import read_state_dict
from tests.launch.resuming import assert_same_weights

# Three epochs of a pool of two views: 20 steps of 7, 6 whole batches of 2 images each.
LONG = ["--trainer.max_steps=20", "--trainer.val_check_interval=10", "--data.views=2"]
SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.views=2", "--run.pictures_every=0"]
# A second target of the same teacher, of a smaller view.
FURTHER = json.dumps([{"feature": "embedding", "image_size": 32, "tap": 0, "name": "small"}])
STOP = [
    "--trainer.max_steps=4",
    "--trainer.callbacks+=tests.launch.resuming.Interrupt",
    "--trainer.callbacks.step=1",
    f"--trainer.callbacks.number={int(signal.SIGINT)}",
]
pytestmark = pytest.mark.xdist_group("cache")  # written once


def cache(recipe: Path, out: Path, *extra: str) -> int:
    return main(["cache", str(recipe), "--out", str(out), "--data.views=2", *extra])


@pytest.mark.parametrize(("dtype", "workers"), [("float32", 2), ("float16", 0), ("int8", 2)])
def test_a_cached_run_is_the_live_one(distill_recipe: Path, tmp_path: Path, dtype: str, workers: int) -> None:
    """To the bit: weights, scores and what is exported; flips are on, and corruption is as live."""
    drawn = dtype == "int8"
    given = [*LONG, f"--run.pictures_every={int(drawn)}", f"--model.target_dtype={dtype}"]
    given += [f"--model.targets={FURTHER}"] if dtype == "float16" else []
    assert main(["fit", str(distill_recipe), *given, f"--run.dir={tmp_path}/live"]) == 0
    assert cache(distill_recipe, tmp_path / "cache", *given[len(LONG) + 1 :]) == 0
    (weights := Path(_teacher(distill_recipe))).rename(tmp_path / "away.safetensors")
    try:
        fit = ["fit", str(distill_recipe), *given, f"--model.cache.root={tmp_path}/cache"]
        assert main([*fit, f"--data.num_workers={workers}", f"--run.dir={tmp_path}/cached"]) == 0
        if drawn:  # scored without the teacher, too
            assert main(["validate", f"{tmp_path}/cached"]) == 0
            scores = json.loads((tmp_path / "cached" / "validate.json").read_text())
            assert scores["val/l1"] == json.loads((tmp_path / "cached" / "summary.json").read_text())["val/l1"]
    finally:
        (tmp_path / "away.safetensors").rename(weights)
    live, stored = tmp_path / "live", tmp_path / "cached"
    for name in ("last", "best"):
        first, second = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for run in (live, stored))
        assert all(torch.equal(tensor, second["state_dict"][key]) for key, tensor in first["state_dict"].items())
        for key, tensor in first["target_statistics"].items():
            assert torch.equal(tensor, second["target_statistics"][key]), "statistics of the calibration"
        assert first["teacher_digest"] == second["teacher_digest"]
    expected, found = (read_state_dict(run / "student.safetensors") for run in (live, stored))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    first, second = (json.loads((run / "summary.json").read_text()) for run in (live, stored))
    same = ("val/l1", "val/l1_ratio", "teacher", "teacher_digest", "teacher_params", "teacher_macs")
    several = ("teachers", "teachers_params", "teachers_macs") if dtype == "float16" else ()
    assert {key: first[key] for key in (*same, *several)} == {key: second[key] for key in (*same, *several)}
    pictures = [sorted((run / "fit_pictures").rglob("*.png")) for run in (live, stored)]
    assert bool(pictures[0]) == drawn
    assert [path.read_bytes() for path in pictures[0]] == [path.read_bytes() for path in pictures[1]]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("--model.target_dtype=int8", "dtype is float32 in the cache, and int8 in the recipe (set model.target_dtype)"),
        ("--seed_everything=1", "seed is 0 in the cache, and 1 in the recipe (runs of several seeds share a cache if"),
        ("--data.flip=false", "data.arguments.flip is True in the cache, and False in the recipe"),
        ("--data.train_limit=9", "images.train.count is 12 in the cache, and 9 in the recipe"),
        ("--model.teacher.name=vit_small_patch16_224", "teacher.arguments.name is vit_tiny_patch16_224 in the cache"),
        ("--model.target=block_0", "unknown teacher feature in model.target 'block_0'"),
        ("--data.views=null", "data.views is null: every epoch shows new views"),
        ("--model.cache.root=nowhere", "model.cache.root: nowhere holds no cache; make it with `distill cache RECIPE"),
    ],
    ids=lambda word: word.split("=")[0].strip("-") if word.startswith("--") else "",
)
def test_another_recipe_is_refused_by_the_first_field_that_differs(
    distill_recipe: Path, small_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: str, said: str
) -> None:
    assert main(["fit", str(distill_recipe), *SHORT, f"--model.cache.root={small_cache}", extra]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("distill: error") == error.count("\n") == 1
    if "in the cache" in said:
        assert f"make a fitting cache with `distill cache {distill_recipe} --data.views=2 {extra}`" in error
    assert not (tmp_path / "run").exists()


def test_further_teachers_are_not_built(distill_recipe: Path, small_cache: Path, tmp_path: Path) -> None:
    """Their targets are not stored: their weights may be anywhere."""
    absent = {"class_path": "teachers.ViT", "init_args": {"name": "vit_tiny_patch16_224", "checkpoint": "nowhere.pth"}}
    targets = json.dumps([{"feature": "embedding", "name": "other", "teacher": absent}])
    assert cache(distill_recipe, tmp_path / "cache", f"--model.targets={targets}") == 0
    first, second = ((place / "v00-00000.safetensors").read_bytes() for place in (tmp_path / "cache", small_cache))
    assert first == second


def test_views_that_change_in_size_have_no_cache() -> None:
    with pytest.raises(UserError, match=r"data\.sizes changes the size of views .* remove data\.sizes, or set model\."):
        require_fixed_views(Namespace(init_args=Namespace(views=2, sizes={0: 64, 10: 128})))


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the recipe with a pool of two views."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _made(small_cache: Path, distill_recipe: Path) -> None:
    if not (small_cache / "cache.json").exists():
        assert cache(distill_recipe, small_cache) == 0


def test_other_weights_of_the_teacher_are_refused(
    distill_recipe: Path, small_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of the same is not; a file that is gone cannot be looked at."""
    weights = Path(_teacher(distill_recipe))
    other = tmp_path / "other.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    fit = ["fit", str(distill_recipe), *SHORT, f"--model.cache.root={small_cache}"]
    assert main([*fit, f"--model.teacher.checkpoint={other}"]) == 2
    assert "teacher.weights is" in capsys.readouterr().err
    other.write_bytes(weights.read_bytes())
    assert main([*fit, f"--model.teacher.checkpoint={other}"]) == 0


def test_an_incomplete_cache_is_refused_and_goes_on(
    distill_recipe: Path, small_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_cache, copy)
    (copy / "v01-00000.safetensors").unlink()
    assert main(["fit", str(distill_recipe), *SHORT, f"--model.cache.root={copy}"]) == 2
    assert "lacks 1 of 3 files, the first v01-00000.safetensors; go on with `distill cache" in capsys.readouterr().err
    assert cache(distill_recipe, copy, "--verify") == 0
    assert "of 16 targets made anew 16 are equal to the bit" in " ".join(capsys.readouterr().out.split())
    assert (copy / "v01-00000.safetensors").read_bytes() == (small_cache / "v01-00000.safetensors").read_bytes()


def test_a_wrong_view_stops_the_fit_at_its_first_batch(
    distill_recipe: Path, small_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both views of the pool have the targets of one: the calibration, which sees view 0, is already stopped."""
    copy = tmp_path / "copy"
    shutil.copytree(small_cache, copy)
    shutil.copy(copy / "v01-00000.safetensors", copy / "v00-00000.safetensors")
    assert main(["fit", str(distill_recipe), *SHORT, f"--model.cache.root={copy}"]) == 2
    error = capsys.readouterr().err
    assert "the view is not the one that the teacher saw" in error
    assert error.count("distill: error") == error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_under_live_the_teacher_sees_changed_images_again(
    distill_recipe: Path, small_cache: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is that of the live teacher on the changed images."""
    images = tmp_path / "images"
    shutil.copytree(scenes / "train" / "images", images)
    path = sorted(images.iterdir())[5]
    pixels = np.asarray(Image.open(path)).copy()
    size = path.stat().st_size
    pixels[30:34, 30:34] = 255 - pixels[30:34, 30:34]
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    if path.stat().st_size != size:
        pytest.skip("the changed file has another size")
    fit = ["fit", str(distill_recipe), *SHORT, "--trainer.max_steps=6", f"--data.root={images}"]
    live = [f"--model.cache.root={small_cache}", "--model.cache.on_mismatch=live", f"--run.dir={tmp_path}/cached"]
    assert main([*fit, *live]) == 0
    assert main([*fit, f"--run.dir={tmp_path}/live"]) == 0
    expected, found = (read_state_dict(tmp_path / name / "student.safetensors") for name in ("live", "cached"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    rows = (tmp_path / "cached" / "metrics.csv").read_text().splitlines()
    misses = [row.split(",")[rows[0].split(",").index("cache_misses")] for row in rows[1:]]
    assert sum(float(count) for count in misses if count) == 1


def test_a_run_is_resumed_with_and_without_its_cache(distill_recipe: Path, small_cache: Path, tmp_path: Path) -> None:
    """Begun live, resumed with stored targets: the bits of a run that is live throughout."""
    fit = ["fit", str(distill_recipe), *SHORT, "--data.views=2"]
    assert main([*fit, f"--run.dir={tmp_path}/whole", "--trainer.max_steps=4"]) == 0
    assert main([*fit, f"--run.dir={tmp_path}/cut", *STOP]) == 130
    resume = [*fit, f"--run.dir={tmp_path}/cut", "--trainer.max_steps=4", "--ckpt_path=last"]
    assert main([*resume, f"--model.cache.root={small_cache}"]) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_words_of_the_verb(
    distill_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["cache", "--help"])
    assert "--verify" in capsys.readouterr().out
    assert main(["cache", str(distill_recipe), "--out"]) == 2
    assert "argument --out: expected one argument" in capsys.readouterr().err
    assert main(["cache", str(distill_recipe)]) == 2
    assert "data.views is null" in capsys.readouterr().err
    assert main(["cache", str(distill_recipe), "--data.views=1", "--verify"]) == 0
    [folder] = (tmp_path / "caches").iterdir()
    assert re.fullmatch(r"distill-[0-9a-f]{8}", folder.name)
    said = capsys.readouterr().out
    assert "12 images x 1 views, 4 validation images; embedding 192x8x8 in float32: 0.00 GB in 2 files" in said
    assert f"distill fit {distill_recipe} --data.views=1 --model.cache.root {folder.relative_to(tmp_path)}" in said


def _teacher(recipe: Path) -> str:
    content = yaml.safe_load(recipe.read_text())
    return str(content["model"]["init_args"]["teacher"]["init_args"]["checkpoint"])
