"""Images for checks: sizes, contents."""

import numpy as np

from distill.exporters.verify.images import check_images

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (3, 70, 150), dtype=np.uint8)


def test_four_sizes_and_three_kinds() -> None:
    images = check_images([PHOTOGRAPH], side=128, stride=32)
    assert [image.side for image in images] == [128, 96, 160, 192, 128, 128, 128]
    for image in images:
        assert image.pixels.dtype == np.uint8
        assert max(image.pixels.shape[1:]) == image.side, "neither network may have to resample"
        assert image.side % 32 == 0
    assert images[4].pixels.shape[1] < images[4].pixels.shape[2]
    assert np.unique(images[5].pixels).tolist() == [126, 127, 128, 129]


def test_no_image_is_smaller_than_a_file_takes() -> None:
    images = check_images([PHOTOGRAPH], side=64, stride=8, least=72)
    assert [image.side for image in images] == [72, 88, 112, 80, 80, 72, 72]
    for image in images:
        assert min(image.pixels.shape[1:]) >= 72
        assert max(image.pixels.shape[1:]) == image.side
    assert images[4].pixels.shape[1] < images[4].pixels.shape[2]


def test_a_tiny_view_is_checked_at_four_sizes_too() -> None:
    sides = [image.side for image in check_images([PHOTOGRAPH], side=32, stride=32)]
    assert sides[:4] == [32, 64, 96, 128]
