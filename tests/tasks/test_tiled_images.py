"""Large images are predicted by tiles and scored as a whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from distill.contracts import HeadBase, Prediction, StudentBase, Target
from distill.data import CocoInstances
from distill.data.masks import encode_mask, extent_of
from distill.data.tiling import TilePlan
from distill.errors import UserError
from distill.evaluation.instances import InstanceEvaluation
from distill.instance_masks import InstanceMasks
from distill.tasks.instances import FineTuningModule
from distill.tasks.tiled_images import TiledImages
from tests.tasks.test_base import trainer

TILE, OVERLAP = 64, 24
SIZES = ((150, 190), (64, 40), (64, 130))


class OneMap:
    def channels(self) -> list[int]:
        return [3]

    def reduction(self) -> list[int]:
        return [1]


class Identity(StudentBase):
    """Its only map is the image."""

    mean, std = (0.0,) * 3, (1.0,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = OneMap()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


class Oracle(HeadBase):
    """Reads the truth from the pixels: each object has a red of its own, and its class is in the green."""

    def __init__(self, feature_info: Any, class_names: list[str]) -> None:
        super().__init__()

    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Prediction]:
        found = []
        for image, target in zip(features[0], targets, strict=True):
            height, width = target.size
            assert target.original_size == target.size, "tiles are seen as they are"
            red, green, _ = (image[:, :height, :width] * 255).round().long()
            numbers = red.unique()[1:].tolist()
            masks = torch.stack([red == number for number in numbers]) if numbers else torch.zeros(0, height, width) > 0
            labels = torch.tensor([int(green[mask][0]) for mask in masks], dtype=torch.int64)
            compact = InstanceMasks.from_dense(masks)
            boxes = [(left, top, left + w, top + h) for top, left, h, w in compact.frames]
            scores = torch.linspace(0.9, 0.8, len(numbers))
            found.append(
                Prediction(
                    target.image_id, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), scores, labels, compact
                )
            )
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Images with discs of 5 to 59 px, which lie everywhere and touch nothing of their own number."""
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    images: list[Any] = []
    annotations: list[Any] = []
    for image_id, (height, width) in enumerate(SIZES, start=1):
        pixels = np.zeros((height, width, 3), np.uint8)
        rows, columns = np.mgrid[:height, :width]
        for number in range(1, 41):
            row, column, radius = rng.integers(height), rng.integers(width), rng.choice([3, 5, 8, 30])
            disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            if not pixels[disc].any():
                pixels[disc] = number, number % 2, 0
        for number in np.unique(pixels[..., 0])[1:].tolist():
            rle = encode_mask(pixels[..., 0] == number)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1 + number % 2, "iscrowd": 0}
                | {"segmentation": rle, "bbox": extent_of(rle, height, width)}
                | {"area": int((pixels[..., 0] == number).sum())}
            )
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        Image.fromarray(pixels).save(folder / name)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    keys = [f"{split}_{what}" for split in ("train", "val") for what in ("images", "annotations")]
    return dict(zip(keys, [str(folder), str(folder / "truth.json")] * 2, strict=True))


def module(files: dict[str, str], **settings: Any) -> CocoInstances:
    return CocoInstances(**files, **{"image_size": TILE, "batch_size": 4, "num_workers": 0, "seed": 0} | settings)


def evaluated(data: CocoInstances) -> InstanceEvaluation:
    task = FineTuningModule(Identity(), Oracle)
    trainer().test(task, datamodule=data, verbose=False)
    assert isinstance(task.evaluation, InstanceEvaluation)
    return task.evaluation


def test_a_model_that_is_right_in_every_tile_is_right_in_the_image(files: dict[str, str]) -> None:
    found = evaluated(module(files, tile=TILE, tile_overlap=OVERLAP))
    scores = found.summary()
    assert {name: scores[name] for name in ("box/AP", "mask/AP", "boundary/AP", "mask/AR")} == dict.fromkeys(
        ("box/AP", "mask/AP", "boundary/AP", "mask/AR"), 1.0
    )
    truth = json.loads(Path(files["val_annotations"]).read_text())["annotations"]
    results = found.evaluator.results()
    assert sorted(map(str, (one["segmentation"] for one in results))) == sorted(str(a["segmentation"]) for a in truth)
    assert found.evaluator.seen() == [1, 2, 3]


def test_without_joining_the_score_is_lower(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can fail: no two detections are the same object."""
    monkeypatch.setattr("distill.scene.merge.match", lambda *arguments: [])
    assert evaluated(module(files, tile=TILE, tile_overlap=OVERLAP)).summary()["mask/AP"] < 0.9


def test_several_processes_find_the_same(files: dict[str, str]) -> None:
    """Which see every other tile, and one tile twice."""
    data = module(files, tile=TILE, tile_overlap=OVERLAP)
    tiles = data.evaluated("val")
    assert len(tiles) == sum(len(TilePlan(*size, TILE, OVERLAP)) for size in SIZES) == 20 + 1 + 3
    assert [tiles.images_among(count) for count in (0, 1, 20, 21, 22, 24, 99)] == [0, 1, 1, 2, 3, 3, 3]
    head, sizes = Oracle(None, []), dict(enumerate(SIZES, start=1))

    def seen_by(rank: int) -> tuple[TiledImages, list[Prediction]]:
        own, complete = TiledImages(data.tile_plan, sizes), []
        for number in [*range(rank, len(tiles), 2), 0]:
            image, target, tile = tiles[number]
            complete += own.add(head.predict([image[None]], [target]), [tile])
        return own, complete

    (one, first), (other, second) = seen_by(0), seen_by(1)
    assert sorted(prediction.image_id for prediction in [*first, *second]) == [2]
    together = [*first, *second, *one.rest([one.found, other.found])]
    expected = evaluated(data).evaluator
    again = type(expected)(data.ground_truth("val"), data.class_names)
    again.update(sorted(together, key=lambda prediction: prediction.image_id))
    assert again.results() == expected.results()


def test_whole_images_are_the_default(files: dict[str, str]) -> None:
    data, tiled = module(files, image_size=190), module(files, image_size=190, tile=190)
    assert data.evaluated("val") is data.dataset("val")
    whole, cut = (next(iter(one.val_dataloader())) for one in (data, tiled))
    assert "tiles" not in whole
    assert torch.equal(whole["image"], cut["image"])
    assert [tile[2:] for tile in cut["tiles"]] == [(0, 0, *size) for size in SIZES]
    assert data.image_set("val") == tiled.image_set("val")
    assert (data.scoring(), tiled.scoring()) == ({}, {"tile": 190, "tile_overlap": 47})
    for settings, message in (
        ({"tile_overlap": 8}, "tile_overlap is 8, but tile is null"),
        ({"tile": 0}, "tile is 0; it must be 1 or more"),
        ({"tile": 64, "tile_overlap": 64}, "tile_overlap is 64; it must lie between 0 and 63"),
    ):
        with pytest.raises(UserError, match=message):
            module(files, **settings)
