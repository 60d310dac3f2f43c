"""Synthetic scenes are repeatable, exact, extendable and written like any other COCO data set."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from distill.data import CocoInstances, ImageFolder
from distill.data.annotations import CocoAnnotations
from distill.data.masks import decode_mask
from distill.errors import UserError
from distill.synthetic.canvas import Canvas, offset, rectangle
from distill.synthetic.scenes import CLASS_NAMES, draw_scene, visible_objects, write_scenes


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_parameters_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    first = contents(write_scenes(tmp_path / "a", "train", 4, image_size=64))
    assert first == contents(write_scenes(tmp_path / "b", "train", 4, image_size=64))
    images = {name: data for name, data in first.items() if name.endswith("png")}
    assert len(images) == len(set(images.values())) == 4
    for split, seed in (("train", 1), ("val", 0)):
        other = contents(write_scenes(tmp_path / f"{split}{seed}", split, 4, image_size=64, seed=seed))
        assert not set(images.values()) & set(other.values())


def test_count_only_extends(tmp_path: Path) -> None:
    few = contents(write_scenes(tmp_path, "train", 2, image_size=64))
    more = contents(write_scenes(tmp_path, "train", 4, image_size=64))
    assert {name: more[name] for name in few if name.endswith("png")}.items() <= few.items()
    assert len(more) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_complete_data_set_is_reused_and_a_damaged_one_replaced(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "train", 2, image_size=64)
    image = folder / "images" / "00001.png"
    before = image.stat().st_mtime_ns, image.read_bytes()
    write_scenes(tmp_path, "train", 2, image_size=64)
    assert (image.stat().st_mtime_ns, image.read_bytes()) == before
    image.unlink()
    write_scenes(tmp_path, "train", 2, image_size=64)
    assert image.read_bytes() == before[1]
    (folder / "annotations.json").write_text("{")
    write_scenes(tmp_path, "train", 2, image_size=64)
    assert json.loads((folder / "annotations.json").read_text())["info"]["count"] == 2


def test_annotations_are_exact(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "train", 6, image_size=96, seed=5)
    annotations = CocoAnnotations(folder / "annotations.json")
    assert annotations.class_names == list(CLASS_NAMES)
    for index, image in enumerate(annotations.images):
        objects = visible_objects(draw_scene("train", index, 96, 5))
        records = annotations.objects(image["id"])
        assert len(objects) == len(records)
        for (name, mask), record in zip(objects, records, strict=True):
            assert CLASS_NAMES[record["label"]] == name
            assert np.array_equal(decode_mask(record["segmentation"], 96, 96).astype(bool), mask)
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert record["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            assert record["area"] == mask.sum() >= 8
    content = json.loads((folder / "annotations.json").read_text())
    assert [record["id"] for record in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))


def test_scenes_hold_what_they_promise() -> None:
    lengths: dict[str, list[int]] = {name: [] for name in CLASS_NAMES}
    panchromatic = 0
    for index in range(60):
        canvas = draw_scene("train", index, 128, 0)
        assert canvas.pixels.shape == (128, 128, 3)
        assert 0 <= canvas.pixels.min() < canvas.pixels.max() <= 1
        panchromatic += bool((canvas.pixels == canvas.pixels[:, :, :1]).all())
        total = np.zeros((128, 128), int)
        for name, mask in visible_objects(canvas):
            rows, columns = np.nonzero(mask)
            lengths[name].append(max(np.ptp(rows), np.ptp(columns)) + 1)
            total += cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        assert total.max() <= 1  # objects stand apart, so that connected regions tell them apart
    assert 4 < panchromatic < 24
    for name, found in lengths.items():
        assert len(found) > 10, name
        assert 16 < min(found) < np.median(found) < max(found) <= 80, name


def test_neither_colour_nor_size_tells_the_classes_apart() -> None:
    """A nearest-mean classifier of colour, brightness and area is right for less than three in five objects."""
    features, labels = [], []
    for index in range(80):
        canvas = draw_scene("train", index, 128, 0)
        for name, mask in visible_objects(canvas):
            features.append([*canvas.pixels[mask].mean(axis=0), *canvas.pixels[mask].std(axis=0), mask.sum() / 1000])
            labels.append(CLASS_NAMES.index(name))
    known, classes = np.array(features), np.array(labels)
    known = (known - known.mean(axis=0)) / known.std(axis=0)
    means = np.stack([known[classes == label].mean(axis=0) for label in range(len(CLASS_NAMES))])
    found = np.square(known[:, None] - means).sum(axis=2).argmin(axis=1)
    assert np.mean([(found == label)[classes == label].mean() for label in range(len(CLASS_NAMES))]) < 0.6


def test_larger_scenes_hold_more_objects() -> None:
    small, large = (
        np.mean([len(visible_objects(draw_scene("train", index, size, 0))) for index in range(12)])
        for size in (64, 256)
    )
    assert large > 3 * small


def test_unlabelled_scenes(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "pool", 4, image_size=64, labelled=False)
    content = json.loads((folder / "annotations.json").read_text())
    assert content["annotations"] == []
    assert len(content["images"]) == 4
    labelled = write_scenes(tmp_path / "b", "pool", 4, image_size=64)
    assert contents(folder / "images") == contents(labelled / "images")
    data = ImageFolder(str(folder / "images"), image_size=32, batch_size=2, num_workers=0, val_fraction=0)
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 32, 32)


def test_images_are_rgb_and_loadable(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "train", 4, image_size=64)
    assert {Image.open(path).mode for path in (folder / "images").iterdir()} == {"RGB"}
    paths = {f"{split}_images": str(folder / "images") for split in ("train", "val")}
    paths |= {f"{split}_annotations": str(folder / "annotations.json") for split in ("train", "val")}
    data = CocoInstances(**paths, image_size=64, batch_size=4, num_workers=0)
    (batch,) = data.val_dataloader()
    image = torch.from_numpy(np.array(Image.open(folder / "images" / "00001.png"))).permute(2, 0, 1)
    assert torch.equal((batch["image"][1] * 255).round().byte(), image)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 1, "image_size": 32}])
def test_bad_arguments(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(UserError, match="it must be"):
        write_scenes(tmp_path, "train", **arguments)


def test_coverage_is_the_share_of_a_pixel() -> None:
    canvas = Canvas(16)
    patch = canvas.cover(rectangle((8, 8), 6, 4, 0))
    assert patch is not None
    assert patch.coverage.sum() == pytest.approx(24, rel=0.15)
    canvas.own([patch], "ship")
    mask = canvas.owner == 1
    assert mask[6:10, 5:11].all()
    assert mask.sum() == 24
    assert canvas.cover(rectangle((-20, 8), 4, 4, 0)) is None
    turned = canvas.cover(rectangle((8, 8), 8, 4, 0.6))
    assert turned is not None
    assert turned.coverage.sum() == pytest.approx(32, rel=0.15)


def test_canvas_keeps_distance() -> None:
    canvas = Canvas(16)
    body = canvas.cover(rectangle((8, 8), 8, 8, 0))
    assert body is not None
    canvas.own([body], "building")
    canvas.occupy(body, margin=2)
    near, far = canvas.cover(rectangle((3, 8), 2, 2, 0)), canvas.cover(rectangle((1, 8), 2, 2, 0))
    assert near is not None
    assert far is not None
    assert not canvas.is_free(near)
    assert canvas.is_free(far)
    assert offset((1, 2), np.pi / 2, 3, 0) == pytest.approx((1, 5))
