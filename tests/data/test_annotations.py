"""COCO annotation files: what is read, what is refused, and what evaluation gets."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from distill.data.annotations import CocoAnnotations
from distill.data.masks import decode_mask
from distill.errors import UserError

SQUARE = [[1, 2, 5, 2, 5, 6, 1, 6]]


def content() -> dict[str, Any]:
    return {
        "categories": [{"id": 7, "name": "ship"}, {"id": 3, "name": "storage_tank"}],
        "images": [
            {"id": 0, "file_name": "a.png", "height": 8, "width": 10},
            {"id": 5, "file_name": "b.png", "height": 8, "width": 10},
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 7, "bbox": [1, 2, 4, 4], "segmentation": SQUARE, "area": 16.0},
            {"id": 9, "image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 1], "iscrowd": 1,
             "segmentation": {"size": [8, 10], "counts": [0, 3, 77]}},
        ],
    }  # fmt: skip


def write(folder: Path, data: Any) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(data))
    return path


def test_classes_come_from_the_file_ordered_by_id(tmp_path: Path) -> None:
    annotations = CocoAnnotations(write(tmp_path, content()))
    assert annotations.class_names == ["storage_tank", "ship"]
    assert annotations.category_ids == [3, 7]
    assert [record["label"] for record in annotations.objects(0)] == [1]
    assert annotations.objects(1234) == []


def test_declared_classes_select_and_order(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    assert CocoAnnotations(path, ["ship", "storage_tank"]).objects(0)[0]["label"] == 0
    only = CocoAnnotations(path, ["ship"])
    assert only.objects(5) == []
    assert only.empty_classes([5]) == ["ship"]
    with pytest.raises(UserError, match=r"unknown class in '.*a\.json' 'storage-tank': did you mean storage_tank\?"):
        CocoAnnotations(path, ["storage-tank"])


def test_ground_truth_keeps_what_was_published_and_counts_anew(tmp_path: Path) -> None:
    truth = CocoAnnotations(write(tmp_path, content()), ["ship", "storage_tank"]).ground_truth([0, 5])
    assert [category["id"] for category in truth["categories"]] == [7, 3]
    assert [record["id"] for record in truth["annotations"]] == [1, 2]
    assert truth["annotations"][0]["bbox"] == [1, 2, 4, 4]
    assert truth["annotations"][0]["area"] == 16.0
    assert truth["annotations"][0]["iscrowd"] == 0
    assert truth["annotations"][1]["iscrowd"] == 1
    assert truth["annotations"][1]["area"] == 3.0
    assert "label" not in truth["annotations"][0]
    part = CocoAnnotations(write(tmp_path, content())).ground_truth([5])
    assert [image["id"] for image in part["images"]] == [5]
    assert [(record["id"], record["image_id"]) for record in part["annotations"]] == [(1, 5)]


def test_pycocotools_loads_the_ground_truth(tmp_path: Path) -> None:
    truth = CocoAnnotations(write(tmp_path, content())).ground_truth([0, 5])
    coco = COCO(str(write(tmp_path, truth)))
    assert coco.annToMask(coco.anns[1]).sum() == decode_mask(SQUARE, 8, 10).sum()


def test_all_encodings_of_a_mask_agree() -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[2:6, 1:5] = 1
    assert np.array_equal(decode_mask(SQUARE, 8, 10), mask)
    packed = coco_mask.encode(np.asfortranarray(mask))
    assert np.array_equal(decode_mask({"size": [8, 10], "counts": packed["counts"].decode()}, 8, 10), mask)
    flat = mask.flatten(order="F")
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    assert np.array_equal(decode_mask({"size": [8, 10], "counts": runs}, 8, 10), mask)
    two = decode_mask([*SQUARE, [7, 0, 9, 0, 9, 3, 7, 3]], 8, 10)
    assert two.sum() == mask.sum() + 6


def _without(section: str, key: str) -> Any:
    def change(data: dict[str, Any]) -> None:
        del data[section][0][key]

    return change


def _with(section: str, **values: Any) -> Any:
    return lambda data: data[section][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data.pop("annotations"),
            "no list 'annotations'; a COCO file has categories, images, annotations",
        ),
        (_without("images", "file_name"), "entry 0 of 'images' lacks 'file_name'"),
        (_without("annotations", "category_id"), "entry 0 of 'annotations' lacks 'category_id'"),
        (_without("annotations", "segmentation"), r"has no usable segmentation \(it has only a box\)"),
        (_with("annotations", image_id=77), "annotation 0 in .* belongs to image 77, which the file does not list"),
        (_with("annotations", category_id=1), r"has category 1; the file defines \[3, 7\]"),
        (_with("annotations", bbox=[1, 2, 3]), r"has the box \[1, 2, 3\]; it must be four numbers \[x, "),
        (_with("annotations", segmentation=[]), "has no usable segmentation"),
        (_with("annotations", segmentation=[[1, 2, 3, 4]]), "has no usable segmentation"),
        (_with("annotations", segmentation={"counts": [1]}), "has no usable segmentation"),
        (_with("images", id=5), "use an image id twice .*; give each image an id of its own"),
        (_with("categories", name="storage_tank"), "name a category twice .*; rename one of them, or delete one"),
        (lambda data: data.update(annotations=[]), "hold no objects of the classes storage_tank, ship"),
    ],
)
def test_unusable_files(tmp_path: Path, change: Any, message: str) -> None:
    data = copy.deepcopy(content())
    change(data)
    with pytest.raises(UserError, match=message) as caught:
        CocoAnnotations(write(tmp_path, data))
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_classes_without_objects_are_an_error_not_zero_loss(tmp_path: Path) -> None:
    data = content()
    data["annotations"].pop()
    with pytest.raises(UserError, match="hold no objects of the classes storage_tank"):
        CocoAnnotations(write(tmp_path, data), ["storage_tank"])


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'.*none\.json' do not exist"):
        CocoAnnotations(tmp_path / "none.json")
    for text in ('{"images": [', "\x80", "[]"):
        path = tmp_path / "a.json"
        path.write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"a\.json' (are not valid JSON|have no list)"):
            CocoAnnotations(path)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"segmentation": [*SQUARE, [3.0, 3.0, 3.0, 3.0]]}, {"segmentation": SQUARE}),
        ({"segmentation": [[1, 1], *SQUARE, [0, 0, 1, 1, 2]]}, {"segmentation": SQUARE}),
        ({"segmentation": [[0, 0, 2, 2, 4, 4], *SQUARE]}, {"segmentation": SQUARE}),
        ({"bbox": None}, {"bbox": [1, 2, 4, 4]}),
        ({"bbox": []}, {"bbox": [1, 2, 4, 4]}),
        ({"area": None}, {"area": 16.0}),
        ({"iscrowd": None}, {"iscrowd": 0}),
        ({"iscrowd": False}, {"iscrowd": 0}),
        ({"iscrowd": True}, {"iscrowd": 1}),
        ({"iscrowd": 1.0, "segmentation": []}, {"segmentation": [[1, 2, 5, 2, 5, 6, 1, 6]], "iscrowd": 1}),
        ({"id": 9.0, "image_id": 0.0, "category_id": 7.0}, {"image_id": 0, "category_id": 7}),
        ({"segmentation": {"size": [8.0, 10.0], "counts": [0.0, 3.0, 77.0]}}, {"area": 16.0}),
    ],
)
def test_what_labelling_tools_write(tmp_path: Path, changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    data = content()
    data["images"][0].update(id=0.0, height=8.0, width=10.0)
    data["categories"][0].update(id=7.0)
    data["annotations"] = [data["annotations"][0] | changes]
    annotations = CocoAnnotations(write(tmp_path, data), scored=True)
    (record,) = annotations.objects(0)
    truth = annotations.ground_truth([0])
    assert all((truth["annotations"][0] | {"label": 1})[key] == value for key, value in wanted.items())
    assert isinstance(truth["images"][0]["height"], int)
    assert isinstance(record["category_id"], int)
    coco = COCO(str(write(tmp_path, truth)))
    assert np.array_equal(coco.annToMask(coco.anns[1]), decode_mask(record["segmentation"], 8, 10))


def test_a_missing_box_is_that_of_the_mask(tmp_path: Path) -> None:
    data = content()
    del data["annotations"][0]["bbox"]
    assert CocoAnnotations(write(tmp_path, data)).objects(0)[0]["bbox"] == [1, 2, 4, 4]


def test_dropped_parts_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = content()
    for record in data["annotations"][:1]:
        record["segmentation"] = [*SQUARE, [1, 1, 1, 1]]
    CocoAnnotations(write(tmp_path, data))
    (message,) = caplog.messages
    assert message.startswith("left out the parts of 1 polygon in ")
    assert message.endswith("three points or no area; the first: annotation 0")


def test_the_way_out_is_one_that_works(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["segmentation"] = []
    path = write(tmp_path, data)
    with pytest.raises(UserError, match="or set on_error: skip to train without such objects"):
        CocoAnnotations(path)
    with pytest.raises(UserError, match=r"correct or delete it there, .*\(on_error is for training files\)"):
        CocoAnnotations(path, scored=True)
