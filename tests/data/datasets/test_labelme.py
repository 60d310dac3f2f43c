"""LabelMe's JSON files: every shape that encloses something, groups, and what goes wrong in them."""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.curate.prepare import prepare
from distill.data.masks import decode_mask
from distill.errors import UserError
from tests.data.published import ending, labelme


def png(mask: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(kind: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": "ship", "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def with_shapes(root: Path, *shapes: dict[str, Any], **more: Any) -> Path:
    """The source, with these in its first file."""
    source = labelme(root)
    path = ending(source, "labelled/001.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shapes": list(shapes)} | more))
    return source


def objects(root: Path) -> list[dict[str, Any]]:
    """Those of the first image."""
    content = json.loads((root / "annotations/all.json").read_text())
    return [record for record in content["annotations"] if record["image_id"] == content["images"][0]["id"]]


CROSS = np.array([[0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]], bool)
SHAPES: dict[str, tuple[dict[str, Any], float]] = {
    "polygon": (shape("polygon", [[2, 2], [12, 2], [12, 22], [2, 22]]), 200),
    "an old file": ({"label": "ship", "points": [[2, 2], [12, 2], [12, 22], [2, 22]]}, 200),
    "rectangle": (shape("rectangle", [[30, 40], [20, 10]]), 300),
    "rectangle of version 6": (shape("rectangle", [[20, 10], [30, 10], [30, 40], [20, 40]]), 300),
    "circle": (shape("circle", [[30, 24], [30, 34]]), math.pi * 100),
    "mask": (shape("mask", [[5, 7], [8, 9]], mask=png(CROSS)), 5),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_every_shape_has_its_area(tmp_path: Path, kind: str) -> None:
    one, area = SHAPES[kind]
    root = prepare("labelme", with_shapes(tmp_path / "source", one), tmp_path / "out").root
    (found,) = objects(root)
    assert found["area"] == pytest.approx(area, rel=0.015 if kind == "circle" else 0)
    if kind == "mask":
        assert found["bbox"] == [5, 7, 3, 3]
        np.testing.assert_array_equal(decode_mask(found["segmentation"], 48, 64)[7:10, 5:9], CROSS)


def test_groups_are_one_object_each(tmp_path: Path) -> None:
    left, right = [[2, 2], [12, 2], [12, 12], [2, 12]], [[20, 2], [30, 2], [30, 12], [20, 12]]
    source = with_shapes(
        tmp_path / "source",
        shape("polygon", left, group_id=1),
        shape("polygon", right, group_id=1),
        shape("polygon", left, group_id=1, label="boat"),
        shape("polygon", left, group_id=2),
        shape("mask", [[3, 20], [6, 22]], group_id=2, mask=png(CROSS)),
        shape("polygon", left),
        shape("polygon", left),
    )
    done = prepare("labelme", source, tmp_path / "out")
    found = objects(done.root)
    assert [(record["category_id"], record["area"]) for record in found] == [
        (2, 200), (1, 100), (2, 105), (2, 100), (2, 100),
    ]  # fmt: skip
    assert found[0]["segmentation"] == [[2, 2, 12, 2, 12, 12, 2, 12], [20, 2, 30, 2, 30, 12, 20, 12]]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (shape("polygon", [[1, 1], [9, 9]]), "is a polygon of 2 points; it needs three or more"),
        (shape("linestrip", [[1, 1], [9, 9], [9, 1]]), "is a linestrip, which encloses nothing; known are polygon"),
        (shape("point", [[1, 1]]), "is a point, which encloses nothing"),
        (shape("rectangle", [[1, 1]]), "is a rectangle of 1 points; it needs two"),
        (shape("circle", [[5, 5], [5, 5]]), "is a circle without radius"),
        (shape("circle", [[5, 5], [5, 1e308]]), "has a point far outside its image of 64x48"),
        (shape("polygon", [[1, 1], [1e9, 1], [9, 9]]), "has a point far outside its image of 64x48"),
        (shape("polygon", [[1, 1], [9, None], [1, 9]]), "has points that are not two numbers each"),
        (shape("mask", [[1, 1], [3, 3]], mask="AAAA"), "has a mask that is no PNG in base64"),
        (shape("mask", [[1, 1], [3, 3]]), "has a mask that is no PNG in base64"),
        (shape("polygon", [[1, 1], [1, 1], [1, 1]]), "has polygons without area"),
    ],
)
def test_broken_shapes_stop_or_are_left_out(tmp_path: Path, one: dict[str, Any], message: str) -> None:
    source = with_shapes(tmp_path / "source", one, SHAPES["polygon"][0])
    with pytest.raises(UserError, match=rf"^labelled/001\.jpg: [^\n]*{message}[^\n]*; correct the source, or leave it"):
        prepare("labelme", source, tmp_path / "out")
    done = prepare("labelme", source, tmp_path / "out", on_error="skip")
    assert len(objects(done.root)) == 1
    assert len(done.manifest["skipped"]) == 1


def test_an_image_of_another_size_than_annotated(tmp_path: Path) -> None:
    source = with_shapes(tmp_path / "source", SHAPES["polygon"][0], imageHeight=40)
    with pytest.raises(UserError, match=r"001\.jpg' is 64x48, but its annotations say 64x40; correct the source"):
        prepare("labelme", source, tmp_path / "out")
    assert prepare("labelme", source, tmp_path / "out", on_error="skip").manifest["splits"]["all"]["images"] == 2


def test_files_that_are_no_labelme_files(tmp_path: Path) -> None:
    source = labelme(tmp_path / "source")
    (source / "labelled/coco.json").write_text("[]")  # beside no image
    assert prepare("labelme", source, tmp_path / "out").manifest["splits"]["all"] == {"images": 3, "objects": 3}
    for text, message in (
        ("{", "cannot be read"),
        ('{"shapes": [1]}', "has no list `shapes` with `label`"),
        ('{"shapes": [{"label": null, "points": []}]}', "has a shape whose `label` is no text"),
    ):
        ending(source, "labelled/002.json").write_text(text)
        with pytest.raises(UserError, match=rf"^JSON file '.*002\.json' {message}.*; correct it, or leave such files"):
            prepare("labelme", source, tmp_path / "out")
        done = prepare("labelme", source, tmp_path / "out", on_error="skip")
        assert done.manifest["skipped_by_kind"] == {"annotation file": 1}
        assert done.manifest["splits"]["all"]["images"] == 2


def test_folders_named_as_splits(tmp_path: Path) -> None:
    labelme(tmp_path / "source/train")
    labelme(tmp_path / "source/valid")
    done = prepare("labelme", tmp_path / "source", tmp_path / "out")
    assert {split: numbers["images"] for split, numbers in done.manifest["splits"].items()} == {"train": 3, "val": 3}
