"""Decoding of every pixel format that remote-sensing data comes in, and of files that are no images."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.images import BrokenImage, find_images, read_image
from distill.errors import UserError


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_rgb_is_exact(tmp_path: Path, colours: np.ndarray, suffix: str) -> None:
    Image.fromarray(colours).save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.from_numpy(colours).permute(2, 0, 1))


def test_jpeg_is_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8), (200, 40, 90)).save(tmp_path / "a.jpg", quality=95)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (3, 8, 16)
    assert (pixels.float().mean(dim=(1, 2)) - torch.tensor([200.0, 40, 90])).abs().max() < 4


def test_grey_palette_one_bit_and_alpha(tmp_path: Path, colours: np.ndarray) -> None:
    grey = colours[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert torch.equal(read_image(tmp_path / "grey.png"), torch.from_numpy(grey).expand(3, -1, -1))
    palette = Image.fromarray((grey % 4).astype(np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "palette.png")
    expected = torch.from_numpy((grey % 4).astype(np.int64) * 30)[None] + torch.tensor([10, 20, 30])[:, None, None]
    assert torch.equal(read_image(tmp_path / "palette.png").long(), expected)
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    assert torch.equal(read_image(tmp_path / "bits.png")[1], torch.from_numpy((grey > 99) * np.uint8(255)))
    Image.fromarray(np.dstack([colours, grey])).save(tmp_path / "alpha.png")
    assert torch.equal(read_image(tmp_path / "alpha.png"), torch.from_numpy(colours).permute(2, 0, 1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_grey_is_stretched_by_percentiles(tmp_path: Path, dtype: type) -> None:
    values = np.linspace(100, 1100, 10_000).reshape(100, 100).astype(dtype)
    values[0, 0] = 60_000  # one extreme scatterer must not darken the rest
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    assert pixels.shape == (3, 100, 100)
    assert pixels[0, 0, 0] == 255
    assert abs(int(pixels[0, 50, 0]) - 128) <= 2
    assert pixels[0, 5:, :].float().diff(dim=0).min() >= 0


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours_are_stretched_as_deep_grey_is(tmp_path: Path, suffix: str, channels: int) -> None:
    values = np.linspace(100, 1100, 30_000).reshape(100, 100, 3).astype(np.uint16)
    values[0, 0] = 60_000
    stored = values if channels == 3 else np.dstack([values, np.full((100, 100), 65535, np.uint16)])
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), stored[:, :, [2, 1, 0, 3][:channels]])  # OpenCV takes BGR
    pixels = read_image(tmp_path / f"a.{suffix}")
    low, high = np.percentile(values, (1, 99))
    expected = np.round(((values - low) / (high - low)).clip(0, 1) * 255)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_bitmaps_of_16_bits_for_a_whole_pixel_are_not_deep(tmp_path: Path) -> None:
    header = struct.pack("<2sIHHI", b"BM", 66 + 4, 0, 0, 66) + struct.pack(
        "<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0
    )
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    (tmp_path / "a.bmp").write_bytes(header + masks + struct.pack("<HH", 0xF800, 0x001F))
    assert read_image(tmp_path / "a.bmp").flatten(1).T.tolist() == [[255, 0, 0], [0, 0, 255]]


def test_invalid_float_pixels_and_constant_images(tmp_path: Path) -> None:
    values = np.ones((4, 4), np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "constant.tif")
    assert read_image(tmp_path / "constant.tif").unique().tolist() == [0]
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nothing.tif")
    assert read_image(tmp_path / "nothing.tif").unique().tolist() == [0]


def test_broken_files_are_named_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "tif"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
        for share in (0.02, 0.3, 0.7):
            data = whole.read_bytes()
            cut = tmp_path / f"cut.{suffix}"
            cut.write_bytes(data[: int(len(data) * share)])
            with pytest.raises(BrokenImage, match=rf"^image '.*cut\.{suffix}' is [^\n]+$"):
                read_image(cut)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    for name, reason in {"empty.png": "empty file", "text.png": "not an image", "none.png": "does not exist"}.items():
        with pytest.raises(BrokenImage, match=f"{name}.*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(UserError):
        read_image(tmp_path)


def test_images_are_found_in_subfolders_sorted_and_whatever_the_case(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.Tiff", "a/b/x.png", "a.webp", "notes.txt", ".hidden.png", "a/._b.png", ".cache/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.webp", "a/b/x.png", "a/c.Tiff", "b.JPG"]


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "own" / "deep", elsewhere / "more"):
        folder.mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / "a.png")
    (root / "a_link").symlink_to(elsewhere)
    (root / "again").symlink_to(elsewhere / "more")
    (root / "a_second_name").symlink_to(root / "own" / "deep")
    (root / "own" / "loop").symlink_to(root)
    (elsewhere / "back").symlink_to(root / "own")
    (root / ".hidden").symlink_to(elsewhere)
    (root / "nowhere").symlink_to(tmp_path / "gone")
    names = [path.relative_to(root).as_posix() for path in find_images(root)]
    assert names == ["a_link/more/a.png", "own/deep/a.png"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "all").symlink_to(elsewhere)
    assert len(find_images(tmp_path / "links")) == 2


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"root '.*nowhere' does not exist"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"val_root '.*' holds no images; files must end in \.bmp"):
        find_images(tmp_path, key="val_root")
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        find_images(tmp_path / "a.txt")
