"""Statistics, digest and blocks of a teacher; what every teacher does is in tests/contract."""

from pathlib import Path

import pytest
import torch

from distill.errors import UserError
from teachers import ViT

NAME = "vit_tiny_patch16_224"  # mean and std 0.5
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalises_with_its_own_statistics(tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    ours = ViT(NAME, str(tiny_checkpoint), options=tiny)
    other = ViT("vit_small_patch16_224.dino", str(tiny_checkpoint), options=tiny)
    assert ours.mean == ours.std == (0.5, 0.5, 0.5)
    assert (other.mean, other.std) == (IMAGENET_MEAN, IMAGENET_STD)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(ours(images)["embedding"], other(images)["embedding"], atol=1e-2)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    same_to_the_network = (images - 0.5) / 0.5 * std + mean
    torch.testing.assert_close(ours(images)["embedding"], other(same_to_the_network)["embedding"], atol=1e-4, rtol=1e-4)


def test_digest_names_weights_and_statistics(tmp_path: Path, tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    first, again = (ViT(NAME, str(tiny_checkpoint), options=tiny) for _ in range(2))
    assert first.digest == again.digest
    assert first.digest == ViT(NAME, str(tiny_checkpoint), blocks=[0], options=tiny).digest
    assert first.digest != ViT("vit_small_patch16_224.dino", str(tiny_checkpoint), options=tiny).digest
    state = torch.load(tiny_checkpoint)
    state["norm.bias"][0] += 1e-3
    torch.save(state, tmp_path / "changed.pth")
    assert first.digest != ViT(NAME, str(tmp_path / "changed.pth"), options=tiny).digest


@pytest.mark.parametrize("blocks", [[3], [-1], [0, 7]])
def test_refuses_blocks_that_do_not_exist(tiny_checkpoint: Path, tiny: dict[str, int], blocks: list[int]) -> None:
    with pytest.raises(UserError, match=r"has no block .*teacher\.blocks go from 0 to 2"):
        ViT(NAME, str(tiny_checkpoint), blocks=blocks, options=tiny)
