"""Feature maps as colours."""

import torch

from distill.report.pictures.pca import pca_colours


def test_components_are_red_green_and_blue_by_their_spread() -> None:
    """The same on every machine: the largest entry of a component is positive."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 21), torch.linspace(-1, 1, 21), indexing="ij")
    maps = torch.stack([3 * y, torch.full_like(x, 5.0), -9 * x, x * y])[None]
    (shown,) = pca_colours(maps, [])
    assert shown.shape == (1, 21, 21, 3)
    red, green, blue = shown[0].unbind(-1)
    expected = [(channel / channel.abs().max()) for channel in (-x, y, x * y)]
    for found, wanted in zip((red, green), expected, strict=False):
        torch.testing.assert_close(found, ((wanted + 0.95) / 1.9).clamp(0, 1).double(), atol=0.03, rtol=0)
    assert torch.corrcoef(torch.stack([blue.flatten(), expected[2].flatten().double()]))[0, 1] > 0.97


def test_equal_maps_have_equal_colours_and_others_the_same_basis() -> None:
    torch.manual_seed(0)
    reference = torch.randn(2, 8, 5, 7)
    first, same, half, grid = pca_colours(reference, [reference.clone(), reference / 2, torch.randn(2, 8, 3, 4)])
    assert torch.equal(first, same)
    assert half.std() < 0.7 * first.std()  # a student that has half the teacher's contrast looks so
    assert torch.equal(first, pca_colours(reference, [])[0])
    assert grid.shape == (2, 3, 4, 3)


def test_maps_without_variation_few_channels_or_numbers_are_drawn() -> None:
    for maps in (torch.ones(1, 4, 3, 3), torch.randn(2, 1, 3, 3), torch.randn(1, 2, 1, 1)):
        shown, broken = pca_colours(maps, [torch.full_like(maps, float("nan"))])
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
        assert not broken.any()
