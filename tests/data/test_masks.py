"""Masks of the rectangle that an object fills equal those of the whole image, at a fraction of the memory."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.transforms.v2 import functional as F

from distill.data.annotations import CocoAnnotations
from distill.data.masks import (
    box_polygons,
    decode_mask,
    decode_patch,
    encode_mask,
    encode_patch,
    extent_of,
    mask_fields,
    mask_iou,
    patch_fields,
)
from distill.data.views.instances import view
from distill.data.views.window import Window
from distill.data.zoom import Zoom
from distill.patch import Patch
from distill.process_memory import forget_peak, process_bytes
from tests.data.published import shared


def pasted(patch: Patch | None, height: int, width: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    if patch is not None:
        rows, columns = patch.pixels.shape
        mask[patch.top : patch.top + rows, patch.left : patch.left + columns] = patch.pixels
    return mask


def by_way_of_the_whole_image(
    segmentation: Any, height: int, width: int, window: tuple[int, int, int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The reference implementation of `decode_patch` and `Zoom`."""
    top, left, rows, columns = window
    crop = decode_mask(segmentation, height, width)[top : top + rows, left : left + columns] * np.uint8(255)
    # Widths first, as torch does; Pillow 13 takes the cheaper order where it resizes both at once.
    wide = Image.fromarray(crop).resize((size[1], rows), Image.Resampling.BILINEAR)
    return (np.asarray(wide.resize(size[::-1], Image.Resampling.BILINEAR)) >= 128).astype(np.uint8)


def shapes(rng: np.random.Generator, height: int, width: int) -> list[Any]:
    """Segmentations of every form, some of which stick out of the image or are full columns of it."""
    polygons = [
        (rng.uniform(-0.2, 1.2, (rng.integers(3, 9), 2)) * [width, height]).round(rng.integers(3)).ravel().tolist()
        for _ in range(6)
    ]
    noise = (rng.random((height, width)) < 0.1).astype(np.uint8)
    columns = np.zeros((height, width), np.uint8)
    columns[:, 2:5] = 1
    one = np.zeros((height, width), np.uint8)
    one[-1, -1] = 1
    runs = np.diff(np.flatnonzero(np.diff(noise.ravel("F"), prepend=2)), append=noise.size).tolist()
    counts = runs if not noise[0, 0] else [0, *runs]
    rles = [encode_mask(mask) for mask in (noise, columns, one, np.ones((height, width)))]
    return [polygons[:1], polygons[1:2], polygons[2:], {"size": [height, width], "counts": counts}, *rles]


@pytest.mark.parametrize("seed", range(6))
def test_patches_are_encoded_as_the_masks_of_whole_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(8, 60, 2).tolist()
    for segmentation in shapes(rng, height, width):
        mask, patch = decode_mask(segmentation, height, width), decode_patch(segmentation, height, width)
        assert encode_patch(patch, height, width) == encode_mask(mask)
        assert patch_fields(patch, height, width) == mask_fields(mask)
    loose = Patch(2, 1, np.pad(np.ones((3, 2), np.uint8), 2))  # rows and columns without a pixel
    assert encode_patch(loose, height, width) == encode_mask(pasted(loose, height, width))
    nothing = Patch(0, 0, np.zeros((0, 0), np.uint8))
    assert encode_patch(nothing, height, width) == encode_mask(np.zeros((height, width)))


@pytest.mark.parametrize("seed", range(6))
def test_patches_equal_the_masks_of_whole_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(6, 60, 2))
    for segmentation in shapes(rng, height, width):
        mask = decode_mask(segmentation, height, width)
        assert np.array_equal(pasted(decode_patch(segmentation, height, width), height, width), mask)
        for _ in range(4):
            rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
            window = (int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns)
            size = int(rng.integers(1, 2 * rows + 1)), int(rng.integers(1, 2 * columns + 1))
            for out in ((rows, columns), size, (max(1, rows // 2), max(1, columns // 2))):
                patch = Zoom(window, out)(decode_patch(segmentation, height, width))
                wanted = by_way_of_the_whole_image(segmentation, height, width, window, out)
                assert np.array_equal(pasted(patch, *out), wanted)
                assert (patch is None) == (not wanted.any())


def test_patches_of_published_outlines_equal_the_masks_of_whole_images() -> None:
    for path in (shared("nwpu") / "annotations/val.json", shared("ssdd") / "annotations/val.json"):
        annotations = CocoAnnotations(path)
        for image in annotations.images[::9]:
            height, width = image["height"], image["width"]
            window = (height // 5, width // 7, height // 2, width // 2)
            for record in annotations.objects(image["id"]):
                shape = record["segmentation"]
                patch = decode_patch(shape, height, width)
                assert np.array_equal(pasted(patch, height, width), decode_mask(shape, height, width))
                wanted = by_way_of_the_whole_image(shape, height, width, window, (90, 120))
                assert np.array_equal(pasted(Zoom(window, (90, 120))(patch), 90, 120), wanted)


def test_torchvision_sees_the_same() -> None:
    rng = np.random.default_rng(0)
    differing = 0
    for _ in range(40):
        x, y, radius = rng.uniform(10, 60, 3)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        polygon = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).clip(0, 70)
        shape = [polygon.ravel().tolist()]
        size = tuple(rng.integers(12, 140, 2).tolist())
        covered = torch.from_numpy(decode_mask(shape, 70, 70) * np.uint8(255))[None]
        wanted = (F.resize(covered, list(size), antialias=True)[0] >= 128).numpy()
        differing += int((pasted(Zoom((0, 0, 70, 70), size)(decode_patch(shape, 70, 70)), *size) != wanted).sum())
    assert differing <= 40  # of 200,000 pixels; its weights have fewer bits: 31 with 0.21


def test_an_empty_segmentation() -> None:
    empty = {"size": [4, 5], "counts": [20]}
    assert extent_of(empty, 4, 5) == [0, 0, 0, 0]
    assert decode_patch(empty, 4, 5).pixels.size == 0
    assert Zoom((0, 0, 4, 5), (8, 10))(decode_patch(empty, 4, 5)) is None


def peak_memory() -> int:
    """Highest resident memory of this process since the last call, in MiB."""
    peak = process_bytes("VmHWM")
    if not forget_peak():
        pytest.skip("this system does not count peaks anew")
    return peak // 2**20


@pytest.mark.parametrize(("count", "height", "width"), [(2000, 1024, 1024), (300, 3000, 4000)])
def test_crowded_images_take_little_memory(count: int, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    corners = (rng.uniform(0, 0.97, (count, 2)) * [width, height]).round()
    side = 0.02 * width
    records = [
        {"bbox": [x, y, side, side], "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]], "label": 0}
        for x, y in corners.tolist()
    ]
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    peak_memory()
    before = peak_memory()
    target = view(pixels, records, 1, Window(0, 0, height, width, 1024 * height // width, 1024, turns=1), 1024)[1]
    assert peak_memory() - before < 200  # a MiB for each object, several times over, if they were dense
    assert target.masks.shape == (count, 1024, 1024)
    areas = torch.tensor([int(mask.sum()) for mask in target.masks[:5]])
    assert ((areas - (0.02 * 1024) ** 2).abs() < 60).all()


def test_encoding_is_that_of_pycocotools() -> None:
    mask = (np.random.default_rng(0).random((9, 13)) < 0.4).astype(np.uint8)
    encoded = encode_mask(mask.astype(bool))
    assert encoded == {"size": [9, 13], "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode()}
    assert np.array_equal(decode_mask(encoded, 9, 13), mask)


def test_fields_of_an_annotation_follow_from_its_mask() -> None:
    mask = np.zeros((9, 13), bool)
    mask[2:5, 3:10] = True
    fields = mask_fields(mask)
    assert (fields["area"], fields["bbox"]) == (21, [3, 2, 7, 3])
    assert np.array_equal(decode_mask(fields["segmentation"], 9, 13), decode_mask(box_polygons(3, 2, 10, 5), 9, 13))


def test_overlaps_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    found, objects = rng.random((3, 9, 13)) < 0.5, rng.random((4, 9, 13)) < 0.5
    crowd = np.array([False, True, False, False])
    shared = (found[:, None] & objects).sum(axis=(2, 3))
    union = np.where(crowd, found.sum(axis=(1, 2))[:, None], (found[:, None] | objects).sum(axis=(2, 3)))
    rles = [[encode_mask(mask) for mask in masks] for masks in (found, objects)]
    np.testing.assert_allclose(mask_iou(*rles, crowd), shared / union)
    assert mask_iou([], rles[1], crowd).shape == (0, 4)


@pytest.mark.parametrize("seed", range(4))
def test_encoded_patches_equal_encoded_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        height, width = rng.integers(1, 24, 2)
        rows, columns = rng.integers(1, height + 1), rng.integers(1, width + 1)
        if rng.random() < 0.3:  # runs that go on from the bottom of a column to the top of the next
            rows = height
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        pixels = (rng.random((rows, columns)) < rng.choice([0.0, 0.5, 0.9, 1.0])).astype(np.uint8)
        patch = Patch(int(top), int(left), pixels)
        encoded = encode_patch(patch, int(height), int(width))
        assert encoded == encode_mask(pasted(patch, height, width))
        assert (decode_mask(encoded, height, width) == pasted(patch, height, width)).all()


def test_patches_of_scenes_are_encoded_without_the_scene() -> None:
    patch = Patch(59_999, 59_990, np.ones((1, 10), np.uint8))
    encoded = encode_patch(patch, 60_000, 60_000)
    assert coco_mask.area(encoded) == 10
    assert coco_mask.toBbox(encoded).tolist() == [59_990, 59_999, 10, 1]
    assert (decode_patch(encoded, 60_000, 60_000).pixels == patch.pixels).all()


def test_images_beyond_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="more than a run-length encoding holds"):
        encode_patch(Patch(0, 0, np.ones((1, 1), np.uint8)), 65_536, 65_536)
