"""What exported files do without PyTorch is what the run does with it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from distill.contracts import Target
from distill.data.views.instances import view
from distill.data.views.semantic import zoomed as torch_zoomed
from distill.data.views.window import fitting_window
from distill.evaluation.sliding_window import predict_by_windows, resize_logits
from distill.exported.frames import instances_of_frames
from distill.exported.models import ExportedClasses
from distill.exported.planes import instances_of_planes
from distill.exported.regions import instances_of_regions, paste
from distill.exported.session import Outputs
from distill.exported.views import fitted, zoomed
from distill.instance_masks import InstanceMasks
from heads import DenseMasks, RSPrompter
from heads.mmdet.compact_masks import paste as torch_paste
from tests.exported.small_files import LOGITS, PLANES


def smooth(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Noise without single pixels, from 0 to 1."""
    noise = rng.random(shape, np.float32).reshape(-1, *shape[-2:])
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 3) for one in noise])
    return ((blurred - blurred.min()) / np.ptp(blurred)).reshape(shape)


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (31, 17), (200, 160)])
def test_views(size: tuple[int, int]) -> None:
    pixels = (smooth(np.random.default_rng(0), 3, *size) * 255).astype(np.uint8)
    seen, shown = fitted(pixels, 64)
    expected, target = view(torch.from_numpy(pixels), [], 0, fitting_window(*size, 64), 64)
    assert shown == target.size
    _within_a_level(seen[0], expected.numpy(), exact=size == (64, 64))
    for zoom in (1.0, 0.6, 2.0):
        _within_a_level(zoomed(pixels, zoom)[0], torch_zoomed(torch.from_numpy(pixels), zoom).numpy(), zoom == 1)


def _within_a_level(found: NDArray[np.float32], expected: NDArray[np.float32], exact: bool) -> None:
    assert found.shape == expected.shape
    levels = np.abs(found - expected) * 255
    assert levels.max() < (1e-4 if exact else 1.01)
    assert (levels > 0.5).mean() < 0.02


def test_pasted_regions() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(-6, 90, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.3, 60, (40, 2))], axis=1).astype(np.float32)
    boxes[0] = [10, 12, 10, 30]  # without a width
    boxes[1] = [200, 200, 220, 230]  # outside
    boxes[2] = [20.5, 20.5, 20.5, 30.5]  # without a width, at the centre of a pixel
    cells = rng.random((40, 28, 28), np.float32)
    size = (80, 100)
    for threshold in (0.5, 0.3):
        expected = torch_paste(torch.from_numpy(cells), torch.from_numpy(boxes), size, threshold).dense().numpy()
        found = InstanceMasks.from_patches(paste(cells, boxes, size, threshold), size).dense().numpy()
        assert expected.any(axis=(1, 2)).sum() > 30
        assert (found != expected).mean() < 1e-6  # values within rounding of the threshold


def test_regions_beyond_the_count_are_padding() -> None:
    outputs: Outputs = {
        "boxes": np.array([[8, 8, 24, 16], [0, 0, 4, 4], [0, 0, 32, 32]], np.float32),
        "scores": np.array([0.9, 0.8, 0.0], np.float32),
        "labels": np.array([1, 0, 0]),
        "count": np.array(2),
        "masks": np.stack([np.ones((28, 28)), np.zeros((28, 28)), np.ones((28, 28))]).astype(np.float32),
    }
    # An image of half the size of its view: boxes and masks are in its own pixels, and an empty mask is no instance.
    found = instances_of_regions(outputs, replace(PLANES, kind="regions"), (32, 32), (16, 16))
    assert found.boxes.tolist() == [[4, 4, 12, 8]]
    assert found.labels.tolist() == [1]
    (patch,) = found.masks
    assert (patch.top, patch.left, patch.pixels.shape) == (4, 4, (4, 8))


@pytest.mark.parametrize("size", [(48, 72), (96, 144), (31, 47), (12, 18)])
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.0, 1.0])
def test_frames_are_resized_as_the_prompt_head_does(size: tuple[int, int], threshold: float) -> None:
    """48 x 72 real px of 64 x 80, for files as large, twice as large, smaller and much smaller."""
    logits = smooth(np.random.default_rng(5), 7, 16, 20) * 8 - 4
    logits[5] = -30
    outputs: Outputs = {
        "boxes": np.tile(np.array([6, 8, 40, 36], np.float32), (7, 1)),
        "scores": np.linspace(0.9, 0.3, 7, dtype=np.float32),
        "labels": np.arange(7),
        "count": np.array(6),
        "masks": logits,
    }
    facts = replace(PLANES, kind="frames", mask_threshold=threshold, mask_stride=4)
    found = instances_of_frames(outputs, facts, (48, 72), size)
    head = RSPrompter(_info(), ["ship"], neck_channels=16, fc_channels=16, decoder_channels=16).roi_head.mask_head
    assert head.stride == 2, "its map has 8 px a cell"
    head.stride = 4
    expected = head._binary(torch.from_numpy(logits[:6, None]), (48, 72), size, threshold).dense().numpy()
    kept = np.flatnonzero(expected.any(axis=(1, 2)))
    assert found.labels.tolist() == kept.tolist()
    assert len(kept) == {0.0: 6, 1.0: 0}.get(threshold, 5)
    dense = InstanceMasks.from_patches(list(found.masks), size).dense().numpy()
    assert (dense != expected[kept]).sum() <= 1  # values within rounding of the threshold
    scale = np.array([size[1] / 72, size[0] / 48] * 2)
    assert np.abs(found.boxes - [6, 8, 40, 36] * scale).max(initial=0) < 1e-5


@pytest.mark.parametrize("size", [(64, 80), (100, 125), (32, 40)])
def test_regions_of_planes(size: tuple[int, int]) -> None:
    probabilities = smooth(np.random.default_rng(2), 2, 80, 80)
    facts = replace(PLANES, mask_threshold=0.55, min_area=5)
    found = instances_of_planes({"probabilities": probabilities[None]}, facts, (64, 80), size)
    head = DenseMasks(_info(), ["ship", "water"], threshold=0.55, min_area=5)
    target = Target(0, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 80, 80), torch.zeros(0), (64, 80), size)
    expected = head._instances(torch.from_numpy(probabilities), target)
    assert len(found) == len(expected.scores) > 3
    assert np.abs(found.scores - expected.scores.numpy()).max() < 1e-5
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.abs(found.boxes - expected.boxes.numpy()).max() == 0
    assert torch.equal(InstanceMasks.from_patches(list(found.masks), size).dense(), expected.masks[:])


def _info() -> object:
    class Info:
        def channels(self) -> list[int]:
            return [4]

        def reduction(self) -> list[int]:
            return [8]

    return Info()


class Strided(nn.Module):
    """Logits on a grid of cells of eight pixels, of images whose sides are multiples of that."""

    facts = replace(LOGITS, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] % 8 == images.shape[-2] % 8 == 0
        pooled = nn.functional.avg_pool2d(images, 8)
        return torch.cat([pooled[:, :1], 1 - pooled[:, 1:2] * 2], dim=1)

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        return {"logits": self(torch.from_numpy(image)).numpy()}


@pytest.mark.parametrize(
    ("zoom", "window", "stride"), [(1.0, None, None), (1.0, 32, None), (2.0, 48, 40), (0.5, 32, 8)]
)
def test_logits_of_zoomed_images_and_windows(zoom: float, window: int | None, stride: int | None) -> None:
    tile = (smooth(np.random.default_rng(3), 3, 96, 80) * 255).astype(np.uint8)
    network = Strided()
    network.facts = replace(LOGITS, zoom=zoom, window=window, window_stride=stride)
    (found,) = ExportedClasses(network).tile_logits([tile])
    image = torch.from_numpy(zoomed(tile, zoom))
    logits = network(image) if window is None else predict_by_windows(network, image, window, stride or window // 2)
    assert np.abs(found - resize_logits(logits, (96, 80))[0].numpy()).max() < 1e-5
