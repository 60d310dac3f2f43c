"""Broken data sets: each gives one line that names the file, or a counted skip; never a traceback or silence."""

import json
import logging
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.curate.verify import find_parts, verify_instances
from distill.data import CocoInstances
from distill.errors import UserError

SIDE = 16
SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]


def content() -> dict[str, Any]:
    """Three images with two squares each."""
    return {
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "tank"}],
        "images": [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in (1, 2, 3)],
        "annotations": [
            {"id": 2 * i + k, "image_id": i, "category_id": 1 + k, "bbox": [2, 2, 6, 6], "segmentation": SQUARE}
            for i in (1, 2, 3)
            for k in (0, 1)
        ],
    }


def write(folder: Path, data: Any = None) -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in (1, 2, 3):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / "images" / f"{i}.png")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "part.json").write_text(json.dumps(content() if data is None else data))
    return folder


@dataclass(frozen=True)
class Variant:
    """A way to be broken.

    `says` is in the error; `skipped` in the warning under on_error: skip, or None where that policy stops as well.
    """

    name: str
    damage: Callable[[Path], None]
    says: str
    skipped: str | None = None


def in_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        data = content()
        change(data)
        (root / "annotations" / "part.json").write_text(json.dumps(data))

    return damage


def as_text(text: str | bytes) -> Callable[[Path], None]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda root: (root / "annotations" / "part.json").write_bytes(data) and None


def image(**values: Any) -> Callable[[Path], None]:
    return in_json(lambda data: data["images"][0].update(values))


def category(**values: Any) -> Callable[[Path], None]:
    return in_json(lambda data: data["categories"][0].update(values))


def objects(name: str, says: str, **values: Any) -> Variant:
    """A variant of the first annotation: refused, or left out and counted."""
    change = in_json(lambda data: data["annotations"][0].update(values))
    return Variant(name, change, says, "left out 1 of 6 objects")


def rle(counts: Any, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


def file(name: str, says: str, damage: Callable[[Path], Any]) -> Variant:
    """A variant of the first image file: refused, or skipped and counted."""

    def broken(root: Path) -> None:
        path = root / "images" / "1.png"
        path.unlink()
        damage(path)

    return Variant(name, broken, says, "skipped 1 of 3 images")


def bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def no_annotations_file(replace: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "annotations" / "part.json"
        path.unlink()
        replace(path)

    return damage


def loop_of_folders(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()
    (root / "images").rmdir()
    (root / "images").symlink_to(root / "images")


VARIANTS = [
    # the file
    Variant("truncated JSON", as_text(json.dumps(content())[:200]), "not valid JSON"),
    Variant("zero-byte JSON", as_text(""), "not valid JSON"),
    Variant("UTF-16", as_text(json.dumps(content()).encode("utf-16")), "not valid JSON in UTF-8"),
    Variant("Latin-1", as_text('{"info": "\u00e9"}'.encode("latin-1")), "not valid JSON in UTF-8"),
    Variant("nested without end", as_text("[" * 100_000), "not valid JSON"),
    Variant("number of 9999 digits", as_text('{"images": ' + "9" * 9999 + "}"), "not valid JSON"),
    Variant("list at the top", as_text("[]"), "have no list 'categories'"),
    Variant("annotations file in a symlink loop", no_annotations_file(lambda p: p.symlink_to(p)), "does not exist"),
    Variant("folder instead of annotations", no_annotations_file(Path.mkdir), "is a folder, not a file"),
    Variant("no section annotations", in_json(lambda data: data.pop("annotations")), "have no list 'annotations'"),
    Variant("images as mapping", in_json(lambda data: data.update(images={})), "have no list 'images'"),
    Variant("no annotation at all", in_json(lambda data: data.update(annotations=[])), "hold no objects"),
    Variant("images in a symlink loop", loop_of_folders, "does not exist|are not in"),
    # categories and image records
    Variant("category without id", in_json(lambda data: data["categories"][0].pop("id")), "lacks 'id'"),
    Variant("category id as text", category(id="1"), "has an id that is no whole number"),
    Variant("category without name", category(name=""), "it must be a text"),
    Variant("duplicate category id", category(id=2), "use a category id twice"),
    Variant("duplicate category name", category(name="tank"), "name a category twice"),
    Variant("image without height", in_json(lambda data: data["images"][0].pop("height")), "lacks 'height'"),
    Variant("image id as text", image(id="1"), "has an id that is no whole number"),
    Variant("duplicate image id", image(id=2), "use an image id twice"),
    Variant("duplicate file name", image(file_name="2.png"), "list an image file twice"),
    Variant("file name as number", image(file_name=1), "it must be a text"),
    Variant("file name of 5000 letters", image(file_name="x" * 5000), "no file can have"),
    Variant("file name with a zero byte", image(file_name="\0.png"), "no file can have"),
    Variant("image of width 0", image(width=0), "it must be two positive numbers"),
    Variant("image of a million pixels squared", image(width=10**6, height=10**6), "too large to decode"),
    # annotations
    objects("category 0", r"has category 0; the file defines \[1, 2\]", category_id=0),
    objects("dangling image id", "belongs to image 99", image_id=99),
    objects("image id as list", r"belongs to image \[1\]", image_id=[1]),
    Variant(
        "duplicate annotation id",
        in_json(lambda data: data["annotations"][1].update(id=2)),
        "annotation 2 .* is there twice",
        "left out 1 of 6 objects",
    ),
    Variant(
        "annotation without category",
        in_json(lambda data: data["annotations"][0].pop("category_id")),
        "lacks 'category_id'",
        "left out 1 of 6 objects",
    ),
    Variant(
        "annotation that is null",
        in_json(lambda data: data["annotations"].__setitem__(0, None)),
        "entry 0 of 'annotations' lacks",
        "left out 1 of 6 objects",
    ),
    objects("NaN box", r"has the box \[nan", bbox=[float("nan"), 2, 6, 6]),
    objects("infinite box", r"has the box \[2, 2, inf", bbox=[2, 2, float("inf"), 6]),
    objects("box beyond the floats", r"has the box \[2, 2, 1000", bbox=[2, 2, 10**400, 6]),
    objects("box of three numbers", r"must be four numbers \[x, y, width, height\]", bbox=[2, 2, 6]),
    objects("box of texts", r"must be four numbers \[x, y, width, height\]", bbox=["2", "2", "6", "6"]),
    objects("negative width", "width and height must be positive", bbox=[8, 2, -6, 6]),
    objects("box without height", "width and height must be positive", bbox=[2, 2, 6, 0]),
    objects("box outside the image", "lies outside its image of 16x16", bbox=[20, 20, 6, 6]),
    objects("neither outline nor box", "it has neither outline nor box", segmentation=None, bbox=None),
    objects("box of an outline without a pixel", "covers no pixel", segmentation=[[2, 2, 2.1, 2, 2, 2.1]], bbox=None),
    objects("crowd flag in quotes", "has iscrowd '0'; it must be 0 or 1, without quotes", iscrowd="0"),
    objects("no polygon", "has no usable segmentation", segmentation=[]),
    objects("odd polygon", "has no usable segmentation", segmentation=[[2, 2, 8, 2, 8, 8, 2]]),
    objects("polygon of two points", "has no usable segmentation", segmentation=[[2, 2, 8, 8]]),
    objects("polygon of pairs", "has no usable segmentation", segmentation=[[[2, 2], [8, 2], [8, 8]] * 2]),
    objects("NaN polygon", "a coordinate is no number", segmentation=[[2, 2, 8, 2, 8, float("nan")]]),
    objects("polygon without area", "has polygons without area", segmentation=[[2, 2, 8, 8, 5, 5]]),
    objects("polygon far outside", "far outside its image", segmentation=[[2, 2, 1e12, 2, 8, 8]]),
    objects("segmentation as text", "has no usable segmentation", segmentation="2 2 8 8"),
    objects("RLE of another size", r"has an RLE of size \[8, 8\]", segmentation=rle([0, 4, 60], (8, 8))),
    objects("RLE too short", "do not add up to the 256 pixels", segmentation=rle([0, 4, 60])),
    objects("RLE with negative runs", "do not add up", segmentation=rle([300, -100, 56])),
    objects("RLE without a pixel", "without a pixel", segmentation=rle([256])),
    objects("damaged RLE text", "counts are damaged", segmentation=rle("0\u00ff4~")),
    objects("RLE text that ends early", "counts are damaged", segmentation=rle("8o")),
    objects("area NaN", "has the area nan", area=float("nan")),
    objects("crowd flag as text", "has iscrowd 'yes'", iscrowd="yes"),
    # image files
    file("zero-byte image", "is an empty file", lambda path: path.write_bytes(b"")),
    file("truncated image", "is damaged", lambda path: path.write_bytes((path.parent / "2.png").read_bytes()[:-300])),
    file("text with the extension of an image", "not an image", lambda path: path.write_text("no image")),
    file("other extension", "does not exist|are not in", lambda path: path.with_suffix(".jpg").write_bytes(b"x")),
    file("image of another size", "is 9x7, but .* says 16x16", lambda path: Image.new("L", (9, 7)).save(path)),
    file("huge image", "too large to decode", bomb),
    file("image in a symlink loop", "is damaged|are not in", lambda path: path.symlink_to(path)),
    file("folder instead of an image", "is damaged|are not in", Path.mkdir),
]


def train(root: Path, good: Path, on_error: str) -> None:
    data = module(root, good, on_error)
    data.setup("fit")
    list(data.train_dataloader())
    data.teardown("fit")


def evaluate(root: Path, good: Path) -> None:
    list(module(good, root, "skip").val_dataloader())


def module(train_root: Path, val_root: Path, on_error: str) -> CocoInstances:
    return CocoInstances(
        train_images=str(train_root / "images"),
        train_annotations=str(train_root / "annotations/part.json"),
        val_images=str(val_root / "images"),
        val_annotations=str(val_root / "annotations/part.json"),
        image_size=SIDE,
        batch_size=1,
        num_workers=0,
        on_error=on_error,
    )


def refused(says: str, action: Callable[..., None], *arguments: Any) -> None:
    with pytest.raises(UserError) as caught:
        action(*arguments)
    message = str(caught.value)
    assert re.search(says, message)
    assert "\n" not in message
    assert len(message) < 900
    assert "broken" in message  # the folder at fault


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_one_line_or_a_counted_skip(variant: Variant, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, root = write(tmp_path / "good"), write(tmp_path / "broken")
    variant.damage(root)
    refused(variant.says, train, root, good, "raise")
    refused(variant.says, evaluate, root, good)
    with caplog.at_level(logging.WARNING):
        if variant.skipped is None:
            refused(variant.says, train, root, good, "skip")
        else:
            train(root, good, "skip")
            assert variant.skipped in caplog.text
            assert re.search(variant.says, caplog.text)
    try:
        report = verify_instances(root, find_parts(root))
    except UserError:
        assert variant.skipped is None  # nothing in it can be checked
    else:
        assert [finding for finding in report.findings if finding.level in ("error", "warning")]


def test_the_sound_data_set_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, root = write(tmp_path / "good"), write(tmp_path / "broken")
    with caplog.at_level(logging.WARNING):
        train(root, good, "raise")
        evaluate(root, good)
    assert not caplog.messages
    with_mark = tmp_path / "mark"
    write(with_mark)
    as_text(b"\xef\xbb\xbf" + json.dumps(content()).encode())(with_mark)
    train(with_mark, good, "raise")


def test_a_skipped_object_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    good, root = write(tmp_path / "good"), write(tmp_path / "broken")
    in_json(lambda data: data["annotations"][0].update(bbox=[float("nan")] * 4))(root)
    views = module(root, good, "skip").dataset("train")
    assert [len(views[index][1].labels) for index in range(3)] == [1, 2, 2]
