"""Tiles cover an image without a gap, overlap enough, and are spread evenly."""

import itertools

import pytest

from distill.data.tiling import TilePlan, spread
from distill.errors import UserError


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 128, 1000, 20000])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (64, 63), (1, 0)])
def test_tiles_cover_a_side_evenly(length: int, tile: int, overlap: int) -> None:
    if length == 20000 and tile - overlap == 1:
        length = 200
    starts = spread(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - tile)
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(0 < step <= tile - overlap for step in steps)
    assert not steps or max(steps) - min(steps) <= 1
    if len(starts) > 1:  # one tile fewer would leave too little overlap
        assert (len(starts) - 2) * (tile - overlap) + tile < length


def test_a_plan_is_read_row_by_row() -> None:
    plan = TilePlan(height=50, width=150, tile=100, overlap=20)
    assert [(tile.row, tile.column, tile.top, tile.left) for tile in plan] == [(0, 0, 0, 0), (0, 1, 0, 50)]
    assert all((tile.height, tile.width) == (50, 100) for tile in plan)
    assert len(plan) == 2


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_a_wrong_plan_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(UserError):
        TilePlan(height=50, width=50, tile=tile, overlap=overlap)
