import pytest
import torch

from distill.errors import UserError
from distill.tasks.corruption import from_patches, to_patches


def test_patches_round_trip_on_odd_grids() -> None:
    images = torch.randn(2, 3, 48, 80)
    tokens = to_patches(images, 16)
    assert tokens.shape == (2, 15, 768)
    assert torch.equal(tokens[0, 1].view(3, 16, 16), images[0, :, :16, 16:32])
    assert torch.equal(from_patches(tokens, 16, (48, 80)), images)
    with pytest.raises(UserError, match="does not divide"):
        to_patches(images, 32)
