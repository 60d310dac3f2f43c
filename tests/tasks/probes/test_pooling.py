import pytest
import torch
from torch.nn.functional import interpolate

from distill.data.class_table import IGNORE
from distill.tasks.probes.pooling import pool, token_classes

SIZE = 24


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (24, 24)])
def test_a_regions_feature_is_the_mean_over_its_pixels(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 4, *grid)
    regions = torch.rand(3, SIZE, SIZE) < 0.1
    regions[0] = False
    regions[0, 5, 9] = True  # one pixel
    # `nearest-exact` reads the cell under a pixel's centre, which for 5 or 7 cells is not always the one of its corner.
    mode = "nearest-exact" if SIZE % grid[0] == 0 else "nearest"
    at_pixels = interpolate(maps, (SIZE, SIZE), mode=mode)
    expected = torch.stack([at_pixels[n][:, regions[n]].mean(dim=1) for n in range(3)])
    torch.testing.assert_close(pool(maps, regions), expected)


def test_a_token_has_the_class_of_half_of_its_pixels() -> None:
    labels = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    labels[0, :4, :2] = 1  # half of the first cell, the rest is not labelled
    labels[0, :4, 4:7] = 0  # three quarters of the second
    labels[0, :4, 7] = 1
    labels[0, 4:, :4] = torch.tensor([0, 1, IGNORE, IGNORE], dtype=torch.uint8)  # a quarter each
    assert token_classes(labels, 2, (2, 2)).tolist() == [[[1, 0], [IGNORE, IGNORE]]]
