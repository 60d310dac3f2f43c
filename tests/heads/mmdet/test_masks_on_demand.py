"""Masks that are made dense on demand give MMDetection the values of its own record."""

import numpy as np
import pytest
import torch

from distill.instance_masks import InstanceMasks
from distill.patch import Patch
from heads.mmdet.mmcv_ops import ensure_mmcv_ops


@pytest.mark.parametrize("binarize", [True, False])
@pytest.mark.parametrize("compact", [True, False])
def test_values_are_those_of_bitmap_masks(compact: bool, binarize: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_mmcv_ops()
    from mmdet.structures.mask import BitmapMasks

    from heads.mmdet import masks_on_demand

    rng = np.random.default_rng(0)
    patches = [Patch(2 * i, 3 * i, rng.integers(0, 2, (20 - i, 25 - i), dtype=np.uint8)) for i in range(6)]
    masks = InstanceMasks.from_patches(patches, (40, 48))
    chosen = torch.tensor([0, 2, 3, 5])
    reference = BitmapMasks(masks[chosen].numpy().astype(np.uint8), 40, 48)
    own = masks_on_demand.MasksOnDemand(masks if compact else masks.dense(), chosen)
    assert len(own) == 4
    assert np.array_equal(own.masks, reference.masks)
    assert np.array_equal(own[np.array([3, 1])].masks, reference[np.array([3, 1])].masks)
    assert torch.equal(own.to_tensor(torch.uint8, "cpu"), reference.to_tensor(torch.uint8, "cpu"))
    regions = np.sort(rng.uniform(0, 40, (9, 2, 2)), axis=1).reshape(9, 4).astype(np.float32)
    matched = rng.integers(0, 4, 9)
    wanted = reference.crop_and_resize(regions, (7, 7), matched, "cpu", binarize=binarize).to_ndarray()
    for values_at_once in (1 << 26, 3 * 40 * 48):
        monkeypatch.setattr(masks_on_demand, "_AT_ONCE", values_at_once)
        assert np.array_equal(own.crop_and_resize(regions, (7, 7), matched, "cpu", binarize=binarize).masks, wanted)
    none = own.crop_and_resize(regions[:0], (7, 7), matched[:0], "cpu")
    assert none.masks.shape == (0, 7, 7)
