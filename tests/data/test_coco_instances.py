"""The data module for COCO instances, and NWPU with the quirks of its published annotations."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning.utilities import move_data_to_device

from distill.contracts import Target
from distill.data import CocoInstances
from distill.data.annotations import CocoAnnotations
from distill.data.images import BrokenImage
from distill.data.masks import decode_mask
from distill.data.views.instances import InstanceViews
from distill.data.views.window import fitting_window
from distill.errors import UserError
from distill.synthetic.scenes import CLASS_NAMES, write_scenes
from tests.data.modules import instances as module
from tests.data.published import write_json


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train", 10, image_size=64)
    write_scenes(root, "val", 4, image_size=64)
    return root


def same(first: Target, second: Target) -> bool:
    fields = ("boxes", "labels", "crowd")
    return first.image_id == second.image_id and all(
        torch.equal(one, other)
        for one, other in [
            *((getattr(first, field), getattr(second, field)) for field in fields),
            (first.masks.dense(), second.masks.dense()),
        ]
    )


def test_batches(scenes: Path) -> None:
    data = module(scenes)
    data.setup("fit")
    assert data.class_names == list(CLASS_NAMES)
    batches = list(data.train_dataloader())
    assert len(batches) == 5
    for batch in batches:
        assert batch["image"].shape == (2, 3, 64, 64)
        assert batch["image"].dtype == torch.float32
        for target in batch["targets"]:
            count = len(target.labels)
            assert target.boxes.shape == (count, 4)
            assert target.masks.shape == (count, 64, 64)
            assert target.original_size == (64, 64)
    moved = move_data_to_device(batches[0], torch.device("cpu"))
    assert isinstance(moved["targets"][0], Target)


def test_validation_is_complete_and_ordered_and_test_defaults_to_it(scenes: Path) -> None:
    data = module(scenes)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        targets = [target for batch in loader for target in batch["targets"]]
        assert [target.image_id for target in targets] == [1, 2, 3, 4]
    truth = data.ground_truth("val")
    assert truth == data.ground_truth("test")
    assert sum(len(target.labels) for target in targets) == len(truth["annotations"])
    for target in targets:
        records = [record for record in truth["annotations"] if record["image_id"] == target.image_id]
        for mask, record in zip(target.masks, records, strict=True):
            assert torch.equal(mask, torch.from_numpy(decode_mask(record["segmentation"], 64, 64)).bool())


def test_workers_do_not_change_views(scenes: Path) -> None:
    first, second = (list(module(scenes, num_workers=workers).train_dataloader()) for workers in (0, 2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert all(same(a, b) for a, b in zip(one["targets"], other["targets"], strict=True))


def test_own_test_split(scenes: Path) -> None:
    folder = scenes / "train"
    data = module(scenes, test_images=str(folder / "images"), test_annotations=str(folder / "annotations.json"))
    assert len(data.dataset("test")) == 10
    with pytest.raises(UserError, match="test_images and test_annotations belong together"):
        module(scenes, test_images="x")


def one_file(root: Path, **arguments: Any) -> CocoInstances:
    folder = root / "train"
    files = {"train_images": str(folder / "images"), "train_annotations": str(folder / "annotations.json")}
    return CocoInstances(**(files | {"image_size": 64, "num_workers": 0} | arguments))


def test_one_annotation_file_is_enough(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = one_file(scenes, val_fraction=0.2)
    with caplog.at_level(logging.INFO):
        parts = {split: [image["id"] for image in data.dataset(split).images] for split in ("train", "val", "test")}
    assert sorted(parts["train"] + parts["val"]) == list(range(1, 11))
    assert len(parts["val"]) == 2
    assert parts["test"] == parts["val"]
    assert data.selects_on_test
    assert [image["id"] for image in data.ground_truth("test")["images"]] == parts["val"]
    (message,) = [message for message in caplog.messages if "held out" in message]
    assert message.startswith("no val_annotations given: 2 of the 10 images of ")
    assert message.endswith("annotations.json are held out for validation (val_fraction 0.2)")
    assert [image["id"] for image in module(scenes, val_fraction=0.2).dataset("val").images] == parts["val"]
    assert len(one_file(scenes).dataset("val")) == 1  # a tenth


def test_what_is_validated_and_tested_on(scenes: Path) -> None:
    val = {"images": str(scenes / "val/images"), "annotations": str(scenes / "val/annotations.json")}
    as_val, as_test = ({f"{split}_{key}": path for key, path in val.items()} for split in ("val", "test"))
    sizes = {
        "val": one_file(scenes, **as_val),
        "test": one_file(scenes, **as_test),
        "val, fraction": one_file(scenes, **as_val, val_fraction=0.3),
    }
    counts = {
        name: ([len(data.dataset(split)) for split in ("train", "val", "test")], data.selects_on_test)
        for name, data in sizes.items()
    }
    assert counts == {"val": ([10, 4, 4], True), "test": ([9, 1, 4], False), "val, fraction": ([7, 3, 4], False)}
    with pytest.raises(UserError, match="val_images and val_annotations belong together; give both, or leave both out"):
        one_file(scenes, val_images="x")
    with pytest.raises(UserError, match="there are validation images apart from the test images already"):
        one_file(scenes, **as_val, **as_test, val_fraction=0.1)


def test_a_single_image_cannot_be_held_out(scenes: Path) -> None:
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] == 1]
    path = scenes / "single.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"list 1 image, of which none can be held out.*may be the training files"):
        one_file(scenes, train_annotations=str(path)).setup("fit")


def test_declared_classes(scenes: Path) -> None:
    data = module(scenes, classes=["diamond", "aircraft"])
    assert data.class_names == ["diamond", "aircraft"]
    assert [category["name"] for category in data.ground_truth("val")["categories"]] == ["diamond", "aircraft"]
    labels = {int(label) for batch in data.val_dataloader() for target in batch["targets"] for label in target.labels}
    assert labels == {0, 1}
    with pytest.raises(UserError, match=r"'boat'.*valid names are aircraft, ship, storage tank"):
        module(scenes, classes=["boat"]).setup("fit")
    with pytest.raises(UserError, match="each only once"):
        module(scenes, classes=["ship", "ship"])


def test_train_limit_is_nested_and_seeded(scenes: Path) -> None:
    def names(limit: int, seed: int = 0) -> list[str]:
        return [image["file_name"] for image in module(scenes, train_limit=limit, seed=seed).dataset("train").images]

    assert names(3) == names(8)[:3]
    assert names(8) != names(8, seed=1)
    assert len(names(99)) == 10


def test_filter_empty_and_missing_classes(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        whole = module(scenes, classes=["aircraft"]).dataset("train")
        part = module(scenes, classes=["aircraft"], filter_empty=True).dataset("train")
    assert len(whole) == 10
    assert 0 < len(part) < 10
    assert all(part.classes(index) for index in range(len(part)))
    assert not caplog.messages
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["annotations"] = [record for record in content["annotations"] if record["category_id"] != 2]
    path = scenes / "no_ships.json"
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        module(scenes, train_annotations=str(path)).setup("fit")
    assert "no training object of ship" in caplog.messages[0]


def _first_of_shuffle(seed: int) -> int:
    return int(torch.randperm(10, generator=torch.Generator().manual_seed(seed))[0])


def test_train_limit_without_any_object(scenes: Path) -> None:
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["annotations"] = content["annotations"][:1]
    path = scenes / "one.json"
    path.write_text(json.dumps(content))
    seed = next(seed for seed in range(9) if _first_of_shuffle(seed) + 1 != content["annotations"][0]["image_id"])
    with pytest.raises(UserError, match=r"the first 1 images of .* show no object; raise train_limit"):
        module(scenes, train_annotations=str(path), train_limit=1, seed=seed).setup("fit")


def test_broken_training_images_are_skipped_or_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scenes(tmp_path, "train", 4, image_size=64)
    write_scenes(tmp_path, "val", 2, image_size=64)
    images = sorted((tmp_path / "train" / "images").iterdir())
    images[0].unlink()
    images[1].write_bytes(b"x")
    data = module(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [len(batch["targets"]) for batch in data.train_dataloader()] == [2, 2]
        data.teardown("fit")
    assert data.skipped == [images[0].name, images[1].name]
    assert "skipped 2 of 4" in caplog.messages[-1]
    with pytest.raises(UserError, match=r"image '.*0000[01]"):
        list(module(tmp_path, on_error="raise").train_dataloader())
    sorted((tmp_path / "val" / "images").iterdir())[1].unlink()
    with pytest.raises(UserError, match=r"1 of 2 images listed in .* are not in .*for example '00001.png'"):
        module(tmp_path).setup("validate")


def test_image_of_another_size_than_annotated_is_broken(scenes: Path) -> None:
    content = json.loads((scenes / "val" / "annotations.json").read_text())
    content["images"][0]["height"] = 65
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] != 1]
    path = scenes / "wrong_size.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"00000\.png' is 64x64, but '.*wrong_size\.json' says 64x65"):
        list(module(scenes, val_annotations=str(path)).val_dataloader())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"scale_jitter": (0.0, 1.0)}, r"scale_jitter is \[0.0, 1.0\]"),
        ({"train_limit": 0}, "train_limit is 0"),
        ({"on_error": "skpi"}, "did you mean skip"),
        ({"train_images": "nowhere"}, "data.train_images 'nowhere' does not exist"),
        ({"val_annotations": "nowhere.json"}, "data.val_annotations 'nowhere.json' does not exist"),
    ],
)
def test_bad_arguments(scenes: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(scenes, **arguments).setup("fit")


def test_unknown_split(scenes: Path) -> None:
    with pytest.raises(UserError, match="unknown split 'vla': did you mean val"):
        module(scenes).ground_truth("vla")


def test_exif_is_applied_to_pixels_and_sizes(scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Masks are drawn on the upright image; where the file gives the size of the stored one, the line names EXIF."""
    shutil.copytree(scenes, tmp_path / "scenes")
    content = json.loads((scenes / "train/annotations.json").read_text())
    first, second, third = content["images"][:3]
    plain = module(scenes).dataset("train")[0][0]
    exif = Image.Exif()
    for record, turn, tag in ((first, 180, 3), (second, 90, 6)):
        path = tmp_path / "scenes/train/images" / record["file_name"]
        exif[0x0112] = tag
        Image.open(path).crop((0, 0, 64, 48 if tag == 6 else 64)).rotate(turn, expand=True).save(path, exif=exif)
    content["images"] = [first, {**second, "height": 64, "width": 48}, third]
    ids = {record["id"] for record in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    write_json(content, tmp_path / "scenes/train/annotations.json")
    data = InstanceViews(
        tmp_path / "scenes/train/images", CocoAnnotations(tmp_path / "scenes/train/annotations.json", on_error="skip"),
        content["images"], 64, "raise",
    )  # fmt: skip
    assert torch.equal(data[0][0], plain)
    with pytest.raises(BrokenImage, match=r"is 64x48 once EXIF has turned it upright, but .* says 48x64, so its masks"):
        data[1]
    data[2]
    data.reader.report("train")
    assert [message.count("upright") for message in caplog.messages if "left out" not in message] == [1, 1]
    assert "turned 2 of 3 train images" in caplog.messages[-1]


def test_a_wrong_folder_is_one_line(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        UserError, match=r"^none of the 10 images listed in '.*annotations\.json' is in '.*', for example"
    ):
        module(scenes, train_images=str(scenes)).setup("fit")
    assert caplog.messages == []


def test_views_have_the_sizes_that_mmcv_gives_them() -> None:
    from mmcv.image.geometric import rescale_size

    for size in (64, 96, 512, 1024):
        for height in range(1, 1200, 7):
            for width in (1, 33, 64, 65, 111, 333, 500, 512, 683, 799, 1024, 1365):
                window = fitting_window(height, width, size)
                expected = rescale_size((width, height), (size, size))
                assert (window.out_width, window.out_height) == tuple(max(1, side) for side in expected)
