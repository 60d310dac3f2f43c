"""The digest of the images and labels that scores are taken on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data import ImageFolder
from distill.data.base import ImageData
from tests.data.landcover import folder, write
from tests.data.modules import instances


def same(*digests: str) -> bool:
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in digests)
    return len(set(digests)) == 1


def of(data: ImageData, count: int | None = None) -> str:
    return data.image_set("val", count)


def test_instances_are_told_apart_by_names_and_annotations(scenes: Path, tmp_path: Path) -> None:
    first = instances(scenes, "test")
    digest = of(first)
    moved = tmp_path / "elsewhere"
    shutil.copytree(scenes, moved)
    assert same(digest, of(instances(moved, "test", seed=7, image_size=32)), first.image_set("test"))
    assert not same(digest, of(first, 3))
    assert same(digest, of(first, 4))
    assert not same(digest, of(instances(moved, "train")))
    assert not same(digest, of(instances(moved, "test", classes=["ship", "aircraft", "building"])))
    path = moved / "test/annotations.json"
    content = json.loads(path.read_text())
    for record in content["annotations"]:
        record["id"] += 1000
    content["images"].reverse()
    path.write_text(json.dumps(content))
    assert same(digest, of(instances(moved, "test"))), "ids and order are of no consequence"
    content["annotations"][0]["bbox"][0] += 0.5
    path.write_text(json.dumps(content))
    assert not same(digest, of(instances(moved, "test")))


def test_held_out_images_depend_on_the_seed_of_the_split_alone(scenes: Path) -> None:
    digests = {
        key: of(instances(scenes, "test", val_fraction=0.5, **arguments))
        for key, arguments in {"a": {}, "b": {"seed": 3}, "c": {"val_seed": 1}}.items()
    }
    assert same(digests["a"], digests["b"])
    assert not same(digests["a"], digests["c"])


def test_pixels_with_labels_are_told_apart_by_their_files(tmp_path: Path) -> None:
    root = write(tmp_path / "one", False)
    digest = of(folder(root))
    moved = Path(shutil.copytree(root, tmp_path / "two"))
    assert same(digest, of(folder(moved, seed=5, zoom=2.0)))
    assert not same(digest, of(folder(moved, ignore=[])))
    mask = next((moved / "val/masks").iterdir())
    Image.fromarray(np.zeros_like(np.asarray(Image.open(mask)))).save(mask)
    assert not same(digest, of(folder(moved)))


def test_unlabelled_images_are_told_apart_by_names_and_sizes(scenes: Path, tmp_path: Path) -> None:
    def images(root: Path, **arguments: object) -> ImageFolder:
        return ImageFolder(str(root), val_fraction=0.4, num_workers=0, **arguments)  # type: ignore[arg-type]

    root = scenes / "train/images"
    digest = of(images(root))
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    assert same(digest, of(images(moved, seed=9, flip=False)))
    data = images(moved)
    path = data.dataset("val").paths[0]
    Image.open(path).resize((32, 32)).save(path)
    assert not same(digest, of(images(moved)))
    path.unlink()
    assert not same(digest, of(images(moved)))


@pytest.mark.parametrize("split", ["test", "vla"])
def test_there_is_no_digest_of_a_split_that_is_not_there(scenes: Path, split: str) -> None:
    with pytest.raises(Exception, match="unknown split"):
        ImageFolder(str(scenes / "train/images")).image_set(split)
