"""A run folder becomes a model: what it finds is what `distill test` found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import distill
from distill.cli import main
from distill.data.images import read_image
from distill.data.masks import encode_mask
from distill.errors import UserError
from distill.evaluation.segmentation import PixelConfusion
from distill.launch.predictors import ClassMap, Instances
from distill.layers import Normalize

STEPS = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--trainer.logger=false"]
TENSORS = ("boxes", "scores", "labels")
DENSE = {"class_path": "heads.DenseMasks", "init_args": {"threshold": 0.11, "min_area": 4}}


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Path]:
    """Fits a recipe for two steps, and returns the folder that the run has been moved to."""

    def fitted(recipe: Path, *words: str, test: bool = True) -> Path:
        assert main(["fit", str(recipe), *STEPS, *words]) == 0
        if test:
            assert main(["test", str(tmp_path / "run"), "--trainer.logger=false"]) == 0
        return Path(shutil.move(tmp_path / "run", tmp_path / "moved"))

    return fitted


def changed(recipe: Path, group: str, **arguments: Any) -> Path:
    content = yaml.safe_load(recipe.read_text())
    content[group]["init_args"] |= arguments
    recipe.write_text(yaml.safe_dump(content))
    return recipe


def as_results(found: list[Instances], ids: list[int]) -> list[dict[str, Any]]:
    """Instances in COCO's result format."""
    return [
        {
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
            "segmentation": encode_mask(mask.numpy()),
        }
        for image_id, one in zip(ids, found, strict=True)
        for (x1, y1, x2, y2), score, label, mask in zip(
            one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), one.masks, strict=True
        )
    ]


@pytest.mark.parametrize("head", ["MaskRCNN", "DenseMasks"])
def test_instances_are_those_of_the_test(
    finetune_recipe: Path, fit: Callable[..., Path], scenes: Path, tmp_path: Path, head: str
) -> None:
    """Without the data set, which gives the classes in training; with averaged weights, or half precision."""
    data = tmp_path / "scenes"
    shutil.copytree(scenes, data)
    files = {
        f"{split}_{kind}": str(data / part / name)
        for split, part in (("train", "train"), ("val", "test"))
        for kind, name in (("images", "images"), ("annotations", "annotations.json"))
    }
    recipe = changed(finetune_recipe, "data", **files, image_size=96)
    recipe = changed(recipe, "model", head=DENSE) if head == "DenseMasks" else recipe
    run = fit(recipe, "--trainer.callbacks+=distill.EMA" if head == "MaskRCNN" else "--trainer.precision=bf16-mixed")
    shutil.rmtree(data)
    model = distill.load(run, device="cpu")
    labels = json.loads((scenes / "test" / "annotations.json").read_text())
    records = labels["images"]
    found = model.predict(scenes / "test" / "images" / record["file_name"] for record in records)
    assert [type(one) for one in found] == [Instances] * len(records)
    expected = json.loads((run / "test_predictions.json").read_text())
    assert expected
    assert as_results(found, [record["id"] for record in records]) == expected
    assert found[0].class_names == model.class_names == [category["name"] for category in labels["categories"]]
    assert set(found[0].names) <= set(model.class_names)
    assert found[1].masks.shape == (len(found[1]), 64, 64)
    best = distill.load(run, checkpoint=run / "checkpoints" / "last.ckpt", device="cpu")
    path = scenes / "test" / "images" / records[0]["file_name"]
    pixels = read_image(path)
    forms = [str(path), pixels, pixels.permute(1, 2, 0).numpy(), Image.open(path)]
    alone = best.predict(path)
    for one in [best.predict(form) for form in forms] + best.predict(pixels[None] / 255):
        assert all(torch.equal(getattr(one, name), getattr(alone, name)) for name in (*TENSORS, "masks"))
        assert (one.image_id, one.class_names) == (0, alone.class_names)
    tiles = [pixels.numpy(), pixels.flip(2).numpy()[:, :40]]
    for one, tile in zip(
        model.predict([torch.from_numpy(tile) for tile in tiles]), model.tile_instances(tiles), strict=True
    ):
        kept = one.masks.flatten(1).any(dim=1)
        assert kept.any()
        assert (len(tile), tile.boxes.dtype, tile.scores.dtype) == (int(kept.sum()), np.float32, np.float32)
        assert all(np.array_equal(getattr(tile, name), getattr(one, name)[kept].numpy()) for name in TENSORS)
        for patch, mask in zip(tile.masks, one.masks[kept].numpy(), strict=True):
            assert mask.sum() == patch.pixels.sum()
            assert np.array_equal(
                mask[patch.top :, patch.left :][: len(patch.pixels), : patch.pixels.shape[1]], patch.pixels
            )
            assert all(patch.pixels[edge].any() for edge in (0, -1, np.s_[:, 0], np.s_[:, -1]))
    if head == "MaskRCNN":
        assert (model.max_detections, model.score_threshold) == (100, 0.05)
        wider = distill.load(run, device="cpu", max_detections=300, score_threshold=0.9)
        assert (wider.max_detections, wider.score_threshold) == (300, 0.05)
        wider = distill.load(run, device="cpu", max_detections=50, score_threshold=0.0)
        assert (wider.max_detections, wider.score_threshold) == (100, 0.0)
        known, more = model.predict(path).scores, wider.predict(path).scores
        assert torch.equal(more[: len(known)], known)
    else:
        wider = distill.load(run, device="cpu", max_detections=300, score_threshold=0.9)
        assert (wider.max_detections, wider.score_threshold) == (None, 0.0)


@pytest.fixture
def segmentation_recipe(tmp_path: Path) -> Path:
    """Images of two sizes, seen at twice their size through windows."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for number, size in enumerate(((20, 28), (24, 16), (20, 28))):
            labels = rng.integers(0, 2, size).astype(np.uint8)
            pixels = np.where(labels == 0, 200, 60)[..., None] + rng.integers(-30, 30, (*size, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"data/{split}/images/{number}.png")
            Image.fromarray(labels).save(tmp_path / f"data/{split}/masks/{number}.png")
    recipe = {
        "model": {
            "class_path": "distill.SegmentationModule",
            "init_args": {
                "student": {"class_path": "students.LALE", "init_args": {"variant": "S1"}},
                "head": {"class_path": "heads.LALEDecoder", "init_args": {"channels": 16}},
                "window": 32,
                "stride": 24,
            },
        },
        "data": {
            "class_path": "distill.data.SemanticFolder",
            "init_args": {
                "root": str(tmp_path / "data"),
                "classes": {"bright": 0, "dark": 1},
                "image_size": 32,
                "batch_size": 2,
                "num_workers": 0,
                "zoom": 2.0,
            },
        },
        "trainer": {"max_steps": 2, "accelerator": "cpu"},
        "run": {"dir": str(tmp_path / "run")},
    }
    path = tmp_path / "segment.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_class_maps_are_those_of_the_test(segmentation_recipe: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    run = fit(segmentation_recipe)
    images = sorted((tmp_path / "data/val/images").iterdir())
    labels = [torch.from_numpy(np.array(Image.open(tmp_path / "data/val/masks" / path.name))) for path in images]
    (tmp_path / "data/train").rename(tmp_path / "elsewhere")
    model = distill.load(run, device="cpu")
    found = model.predict(images)
    counted = PixelConfusion(["bright", "dark"])
    for one, true in zip(found, labels, strict=True):
        assert isinstance(one, ClassMap)
        assert one.class_names == ["bright", "dark"]
        counted.update(one.labels[None], true[None])
    expected = json.loads((run / "test.json").read_text())
    assert {f"test/{key}": value for key, value in counted.summary().items()} == pytest.approx(expected, nan_ok=True)
    pixels = read_image(images[0])
    for one in (model.predict(images[0]), model.predict(pixels), *model.predict(pixels[None] / 255)):
        assert torch.equal(one.labels, found[0].labels)
    for logits, one in zip(model.tile_logits([read_image(path).numpy() for path in images]), found, strict=True):
        assert (logits.dtype, logits.shape) == (np.float32, (2, *one.labels.shape))
        assert np.array_equal(logits.argmax(0), one.labels.numpy())


def test_a_distillation_gives_features_without_its_teacher(
    distill_recipe: Path, fit: Callable[..., Path], vit_weights: Path, scenes: Path, tmp_path: Path
) -> None:
    weights = shutil.copy(vit_weights, tmp_path / "teacher.safetensors")
    content = yaml.safe_load(distill_recipe.read_text())
    content["model"]["init_args"]["teacher"]["init_args"]["checkpoint"] = str(weights)
    distill_recipe.write_text(yaml.safe_dump(content))
    run = fit(distill_recipe, test=False)
    Path(weights).unlink()
    path = next((scenes / "test" / "images").iterdir())
    student = distill.load_student(run / "student.safetensors")
    with torch.no_grad():
        expected = student(Normalize.of(student)(read_image(path)[None].float() / 255))
    for source in (run, run / "student.safetensors"):
        for checkpoint in (None, *(["last"] if source == run else [])):
            maps = distill.load(source, checkpoint=checkpoint, device="cpu").predict(path)
            assert [one.shape for one in maps] == [one.shape[1:] for one in expected]
            torch.testing.assert_close(maps, [one[0] for one in expected])
    (run / "student.safetensors").unlink()
    torch.testing.assert_close(distill.load(run, device="cpu").predict([path])[0], maps)


def test_the_student_of_a_fine_tuned_model(finetune_recipe: Path, fit: Callable[..., Path], scenes: Path) -> None:
    run = fit(finetune_recipe, test=False)
    path = next((scenes / "test" / "images").iterdir())
    exported, stored = (distill.load(run, part="student", checkpoint=c, device="cpu") for c in (None, "last"))
    torch.testing.assert_close(exported.predict(path), stored.predict(path))
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"last\.ckpt; the run has written none: run `distill fit` again"):
        distill.load(run)
    torch.save({"global_step": 1, "state_dict": {}}, run / "other.ckpt")
    with pytest.raises(UserError, match="is not one of a fine-tuning run"):
        distill.load(run, checkpoint=run / "other.ckpt")
    with pytest.raises(UserError, match="does not fit RS4D: "):
        distill.load(run, part="student", checkpoint=run / "other.ckpt")


def test_what_cannot_be_loaded_is_one_line(finetune_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"run": run}, "does not exist; pass the folder that `distill fit` wrote"),
        ({"run": tmp_path}, "is no run folder: it has no recipe.yaml"),
        ({"run": run, "part": "head"}, "part.*head.*model.*student"),
        ({"run": run, "max_detections": 0}, "max_detections is 0; it must be 1 or more"),
        ({"run": run, "score_threshold": 1.5}, r"score_threshold is 1.5; it must lie in \[0, 1\]"),
        ({"run": run, "device": "toaster"}, "device is 'toaster'; give cpu, cuda or cuda:0"),
        ({"run": finetune_recipe, "checkpoint": "last"}, "is a file of weights; leave out checkpoint"),
    ]
    for given, message in cases:
        with pytest.raises(UserError, match=message) as raised:
            distill.load(**given)
        assert "\n" not in str(raised.value)
    run.mkdir()
    recipe = yaml.safe_load(finetune_recipe.read_text())
    recipe["model"]["init_args"]["student"]["init_args"]["variant"] = "enormous"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (run / "checkpoints").mkdir()
    torch.save({"global_step": 1, "state_dict": {}, "class_names": []}, run / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"there is no checkpoint .*last.ckpt; there are best"):
        distill.load(run)
    with pytest.raises(UserError, match=r"model of .*recipe.yaml cannot be built: .*enormous"):
        distill.load(run, checkpoint="best")
    recipe["model"]["class_path"] = "mine.Task"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match="No module named 'mine'; put its package on PYTHONPATH"):
        distill.load(run)
    (run / "seed3").mkdir()
    (run / "seed3" / "recipe.yaml").touch()
    with pytest.raises(UserError, match=r"several seeds; load one, for example .*seed3"):
        distill.load(run)
