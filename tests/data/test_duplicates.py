"""Near-identical images: which changes are seen through, and what is not taken for a copy."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.duplicates import Looks, near_identical
from tests.data.published import scene


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


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
    first = Looks.of([tensor(scene(seed)) for seed in range(40)])
    second = Looks.of([tensor(scene(seed)) for seed in range(100, 120)] + [tensor(change(scene(7)))])
    (pair,) = near_identical(first, second)
    assert (pair.first, pair.second, pair.turned) == (7, 20, turned)
    assert pair.correlation > 0.95


def test_pairs_within_one_set_come_once() -> None:
    images = [tensor(scene(seed)) for seed in range(20)]
    images += [tensor(scene(3).rotate(180)), tensor(scene(5))]
    pairs = {(pair.first, pair.second) for pair in near_identical(Looks.of(images))}
    assert pairs == {(3, 20), (5, 21)}


def test_blank_dark_and_missing_images_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    speckle = [torch.from_numpy((rng.gamma(1, 4, (3, 64, 64)).clip(0, 255)).astype(np.uint8)) for _ in range(60)]
    blank = [torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((3, 20, 20), 255, dtype=torch.uint8)]
    assert near_identical(Looks.of([*speckle, *blank, *blank, None, None])) == []
    assert near_identical(Looks.of([]), Looks.of([])) == []


def test_more_images_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.duplicates._CHUNK", 4)
    images = [tensor(scene(seed)) for seed in range(10)]
    assert [(pair.first, pair.second) for pair in near_identical(Looks.of(images), Looks.of(images[::-1]))] != []
    pairs = {(pair.first, pair.second) for pair in near_identical(Looks.of(images), Looks.of(images[::-1]))}
    assert pairs == {(i, 9 - i) for i in range(10)}
