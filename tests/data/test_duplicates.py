"""Near-identical images: which changes are seen through, and what is not taken for a copy."""

import io
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.duplicates import Looks, Pair, _correlation, groups_of, near_identical, thumbnail
from tests.data.published import scene


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def looks_of(images: Sequence[Tensor]) -> Looks:
    return Looks.from_thumbnails([thumbnail(image) for image in images])


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


@pytest.mark.parametrize(
    ("change", "turned"),
    [
        (lambda image: image, False),
        (recompressed, False),
        (lambda image: image.resize((200, 150)), False),
        (lambda image: image.point(lambda value: value * 0.7 + 20), False),
        (lambda image: image.convert("L"), False),
        (lambda image: image.rotate(90, expand=True), True),
        (lambda image: image.rotate(180), True),
        (lambda image: image.rotate(270, expand=True), True),
        (ImageOps.mirror, True),
        (ImageOps.flip, True),
        (lambda image: ImageOps.mirror(image.rotate(90, expand=True)), True),
    ],
)
def test_copies_are_found_among_others(change: Callable[[Image.Image], Image.Image], turned: bool) -> None:
    first = looks_of([tensor(scene(seed)) for seed in range(40)])
    second = looks_of([tensor(scene(seed)) for seed in range(100, 120)] + [tensor(change(scene(7)))])
    (pair,) = near_identical(first, second)
    assert (pair.first, pair.second, pair.turned) == (7, 20, turned)
    assert pair.correlation > 0.95


def test_pairs_within_one_set_come_once() -> None:
    images = [tensor(scene(seed)) for seed in range(20)]
    images += [tensor(scene(3).rotate(180)), tensor(scene(5))]
    pairs = {(pair.first, pair.second) for pair in near_identical(looks_of(images))}
    assert pairs == {(3, 20), (5, 21)}


def test_blank_and_dark_images_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    speckle = [torch.from_numpy((rng.gamma(1, 4, (3, 64, 64)).clip(0, 255)).astype(np.uint8)) for _ in range(60)]
    blank = [torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((3, 20, 20), 255, dtype=torch.uint8)]
    assert near_identical(looks_of([*speckle, *blank, *blank])) == []
    assert near_identical(looks_of([]), looks_of([])) == []


def test_more_images_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.duplicates._ROWS", 4)
    images = [tensor(scene(seed)) for seed in range(10)]
    assert [(pair.first, pair.second) for pair in near_identical(looks_of(images), looks_of(images[::-1]))] != []
    pairs = {(pair.first, pair.second) for pair in near_identical(looks_of(images), looks_of(images[::-1]))}
    assert pairs == {(i, 9 - i) for i in range(10)}


def with_wedge(image: Image.Image, value: int, oblique: bool) -> Image.Image:
    """Half of the image without data, as tiles at the edge of a scene have it."""
    pixels = np.array(image.resize((256, 192)))
    down, right = np.indices(pixels.shape[:2]) / np.reshape(pixels.shape[:2], (2, 1, 1))
    pixels[(down + right if oblique else 2 * right) < 1] = value
    return Image.fromarray(pixels)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("value", [0, 255])
def test_a_wedge_without_data_is_not_what_images_have_in_common(value: int, oblique: bool) -> None:
    tiles = [with_wedge(scene(seed), value, oblique) for seed in range(60)]
    assert near_identical(looks_of([tensor(tile) for tile in tiles])) == []
    tiles += [recompressed(tiles[7]), tiles[9].rotate(180), recompressed(ImageOps.mirror(tiles[11]))]
    pairs = {(pair.first, pair.second): pair.turned for pair in near_identical(looks_of(list(map(tensor, tiles))))}
    assert pairs == {(7, 60): False, (9, 61): True, (11, 62): True}


def test_faint_tiles_with_one_wedge_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    faint = [Image.fromarray(rng.normal(120, 25, (48, 64, 3)).clip(90, 150).astype(np.uint8)) for _ in range(60)]
    assert near_identical(looks_of([tensor(with_wedge(image, 0, oblique=True)) for image in faint])) == []


def test_many_that_look_alike_cost_no_more_pairs_than_images() -> None:
    rng = np.random.default_rng(0)
    place = rng.uniform(10, 240, (32, 32))
    thumbnails = [(place + rng.normal(0, 2, place.shape)).astype(np.float32) for _ in range(1000)]
    tracemalloc.start()
    pairs = near_identical(Looks.from_thumbnails(thumbnails))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 999
    assert {index for pair in pairs for index in (pair.first, pair.second)} == set(range(1000))
    assert peak < 200e6  # all pairs at once would be 17 GB


def test_each_of_many_copies_is_linked_across_two_sets() -> None:
    copies = [tensor(recompressed(scene(3))) for _ in range(5)]
    first = looks_of([tensor(scene(3)), *copies])
    pairs = near_identical(first, looks_of([*copies, tensor(scene(4))]))
    assert {pair.first for pair in pairs} == set(range(6))
    assert {pair.second for pair in pairs} == set(range(5))
    assert len(pairs) == 10


@pytest.mark.parametrize("count", [0, 1, 12, 40])
def test_groups_are_those_of_merging_pair_by_pair(count: int) -> None:
    rng = np.random.default_rng(count)
    ends = rng.integers(0, max(count, 1), (count // 2, 2)).tolist()
    pairs = [Pair(first, second, 0, 1.0, False) for first, second in ends]
    merged = list(range(count))
    for pair in pairs:
        low, high = sorted((merged[pair.first], merged[pair.second]))
        merged = [low if number == high else number for number in merged]
    assert groups_of(pairs, count).tolist() == merged


def test_the_correlation_is_that_of_the_cells_both_show() -> None:
    images = [tensor(with_wedge(scene(seed), 255, oblique=seed % 2 == 0)) for seed in range(6)]
    looks = looks_of(images)
    fast = _correlation(looks, looks)
    for i, j in np.ndindex(6, 6):
        both = looks.shown[i] & looks.shown[j]
        slow = np.corrcoef(looks.thumbnails[i][both], looks.thumbnails[j][both])[0, 1]
        assert fast[i, j] == pytest.approx(slow, abs=1e-4)
