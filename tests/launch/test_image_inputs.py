"""What counts as an image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.images import read_image
from distill.errors import UserError
from distill.launch.image_inputs import as_pixels, is_single

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
PIXELS = torch.from_numpy(RGB).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        RGB[::-1][::-1],  # not contiguous
        RGB.transpose(2, 0, 1),
        RGB.astype(np.float64) / 255,
        torch.from_numpy(RGB),
        PIXELS,
        (PIXELS / 255).requires_grad_(),
        Image.fromarray(RGB),
        Image.fromarray(np.dstack([RGB, RGB[..., :1]]), "RGBA"),
    ],
)
def test_every_form_gives_the_same_pixels(image: Any) -> None:
    pixels = as_pixels(image)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, PIXELS)


def test_of_two_axes_of_three_the_last_of_an_array_is_channels_and_the_first_of_a_tensor() -> None:
    values = RGB[:3, :3]
    assert torch.equal(as_pixels(values), torch.from_numpy(values).permute(2, 0, 1))
    assert torch.equal(as_pixels(torch.from_numpy(values)), torch.from_numpy(values))


def test_a_file_is_read_as_in_training(tmp_path: Path) -> None:
    turned = Image.new("RGB", (1, 1)).getexif()
    turned[274] = 6  # EXIF: turned by a quarter
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=turned)
    assert as_pixels(path).shape == (3, 7, 5)
    assert torch.equal(as_pixels(str(path)), read_image(path))
    assert torch.equal(as_pixels(Image.open(path)), read_image(path))
    assert torch.equal(as_pixels(path, [3]), read_image(path)[[2, 2, 2]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RGB[..., 0], r"shape \(5, 7\)"),
        (RGB[..., :2], r"shape \(5, 7, 2\)"),
        (RGB[:0], r"shape \(0, 7, 3\)"),
        (RGB.astype(np.uint16), "type uint16"),
        (torch.from_numpy(RGB).long(), "type torch.int64"),
        (RGB.astype(np.float32), "from 0 to 255|divide"),
        (np.full((5, 7, 3), np.nan), "from nan to nan"),
        (Image.new("I;16", (7, 5)), "mode I;16"),
        ("no such.png", "does not exist"),
        (7, "int is no image"),
    ],
)
def test_what_is_no_image_is_one_line(image: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        as_pixels(image)
    assert "\n" not in str(raised.value)


def test_one_image_and_many() -> None:
    assert all(map(is_single, ("a.png", Path("a.png"), RGB, PIXELS, Image.fromarray(RGB))))
    assert not any(map(is_single, ([RGB], PIXELS[None], RGB[None], iter([RGB]))))
