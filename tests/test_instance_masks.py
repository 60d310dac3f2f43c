"""Compact masks read like the dense tensor."""

import pickle

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device

from distill.instance_masks import InstanceMasks
from distill.patch import Patch


@pytest.fixture
def both() -> tuple[InstanceMasks, torch.Tensor]:
    rng = np.random.default_rng(0)
    dense = torch.zeros(4, 9, 12, dtype=torch.bool)
    patches = []
    frames = [(0, 0, 9, 12), (2, 3, 4, 5), (8, 11, 1, 1), (1, 0, 3, 2)]
    for mask, (top, left, height, width) in zip(dense, frames, strict=True):
        pixels = rng.integers(0, 2, (height, width), dtype=np.uint8)
        mask[top : top + height, left : left + width] = torch.from_numpy(pixels).bool()
        patches.append(Patch(top, left, pixels))
    return InstanceMasks.from_patches(patches, (9, 12)), dense


def test_reads_like_the_dense_tensor(both: tuple[InstanceMasks, torch.Tensor]) -> None:
    masks, dense = both
    assert masks.shape == dense.shape
    assert len(masks) == 4
    assert torch.equal(masks.dense(), dense)
    assert torch.equal(torch.stack(list(masks)), dense)
    flags = torch.tensor([True, False, True, False])
    for index in (0, -1, slice(1, 3), slice(None), [2, 0, 2], torch.tensor([3, 1]), flags, ~flags & flags):
        assert torch.equal(masks[index], dense[index])
    assert torch.equal(masks[:, 2:5, :7], dense[:, 2:5, :7])
    assert torch.equal(masks[1, 3], dense[1, 3])
    with pytest.raises(IndexError):
        masks[4]


def test_dense_masks_become_compact_ones(both: tuple[InstanceMasks, torch.Tensor]) -> None:
    _, dense = both
    dense = torch.cat([dense, torch.zeros(1, 9, 12, dtype=torch.bool)])
    masks = InstanceMasks.from_dense(dense)
    assert (masks.shape, masks.dtype) == (dense.shape, torch.bool)
    assert torch.equal(masks.dense(), dense)
    twice = InstanceMasks.cat([masks, InstanceMasks.from_dense(dense[:0]), masks])
    assert torch.equal(twice.dense(), dense.repeat(2, 1, 1))
    assert InstanceMasks.from_dense(dense[:0]).shape == (0, 9, 12)


def test_patches_are_the_smallest_rectangles(both: tuple[InstanceMasks, torch.Tensor]) -> None:
    masks, dense = both
    loose = InstanceMasks.from_patches([Patch(0, 0, mask.numpy().view(np.uint8)) for mask in dense], (9, 12))
    for source in (masks, loose):
        found = [(patch, mask) for patch, mask in zip(source.patches(), dense.numpy(), strict=True) if mask.any()]
        assert len(found) >= 3
        for patch, mask in found:
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            assert (patch.top, patch.left) == (rows[0], columns[0])
            assert np.array_equal(patch.pixels, mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert InstanceMasks.from_patches([], (5, 6)).patches() == []
    (empty,) = InstanceMasks.from_dense(torch.zeros(1, 3, 4, dtype=torch.bool)).patches()
    assert empty.pixels.shape == (0, 0)


def test_travels_as_tensors_do(both: tuple[InstanceMasks, torch.Tensor]) -> None:
    masks, dense = both
    assert torch.equal(pickle.loads(pickle.dumps(masks)).dense(), dense)
    moved = move_data_to_device([masks], torch.device("meta"))[0]
    assert moved.device.type == "meta"
    assert moved[:].shape == dense.shape


def test_an_image_without_objects() -> None:
    masks = InstanceMasks.from_patches([], (5, 6))
    assert masks.shape == (0, 5, 6)
    assert masks[:].shape == (0, 5, 6)
    assert not masks[:].any(dim=0).any()
