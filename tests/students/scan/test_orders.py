"""Scan orders: every token once, and the paths of the papers."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from distill.errors import UserError
from students.scan import orders, scan_order
from students.scan.errors import ScanArgumentError

GRIDS = [(1, 1), (1, 9), (7, 1), (2, 2), (3, 5), (8, 8), (14, 14), (15, 13), (20, 31)]
NAMES = ["raster", "bidirectional", "cross", "snake", "window", "window:2", "window:3"]


def grid(height: int, width: int) -> Tensor:
    return torch.arange(height * width, dtype=torch.int32).view(height, width)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_direction_visits_every_token_once(name: str, height: int, width: int) -> None:
    table = scan_order(name, height, width)
    assert table.dtype == torch.int32
    assert torch.equal(table.sort(1).values, grid(height, width).flatten().expand(len(table), -1))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_largest_window_is_the_grid(height: int, width: int) -> None:
    table = scan_order(f"window:{max(height, width)}", height, width)
    assert torch.equal(table, scan_order("bidirectional", height, width))


@pytest.mark.parametrize(
    ("name", "size", "height", "width"),
    [
        (name, size, *sides)
        for name, size in (("atrous", 2), ("atrous:1", 1), ("atrous:3", 3))
        for sides in GRIDS
        if size <= max(2, *sides)
    ],
)
def test_atrous_directions_share_the_tokens(name: str, size: int, height: int, width: int) -> None:
    table = scan_order(name, height, width)
    assert table.shape == (size**2, -(-height // size) * -(-width // size))
    assert torch.equal(table[table >= 0].sort().values, grid(height, width).flatten())
    inside = table >= 0
    assert not (inside[:, 1:] & ~inside[:, :-1]).any(), "-1 ends a row"


def test_bidirectional_is_raster_and_its_reverse() -> None:
    raster = scan_order("raster", 4, 6)[0]
    assert torch.equal(raster, torch.arange(24, dtype=torch.int32))
    assert torch.equal(scan_order("bidirectional", 4, 6), torch.stack([raster, raster.flip(0)]))


def test_cross_is_that_of_vmamba() -> None:
    rows, columns = grid(4, 6).flatten(), grid(4, 6).T.flatten()
    assert torch.equal(scan_order("cross", 4, 6), torch.stack([rows, columns, rows.flip(0), columns.flip(0)]))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_snake_never_jumps(height: int, width: int) -> None:
    table = scan_order("snake", height, width)
    assert len(table) == 4
    y, x = table // width, table % width
    assert ((y.diff(dim=1).abs() + x.diff(dim=1).abs()) == 1).all()
    assert table[:, 0].tolist() == [0, 0, table[0, -1].item(), table[1, -1].item()]


def test_window_is_that_of_localmamba_where_it_divides() -> None:
    windows = grid(6, 9).view(2, 3, 3, 3).transpose(1, 2).flatten()
    assert torch.equal(scan_order("window:3", 6, 9), torch.stack([windows, windows.flip(0)]))


def test_windows_are_cut_at_the_border() -> None:
    assert scan_order("window:2", 3, 3)[0].tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]
    assert torch.equal(scan_order("window", 14, 21), scan_order("window:7", 14, 21))


def test_atrous_is_that_of_efficientvmamba() -> None:
    g = grid(6, 8)
    parts = [g[::2, ::2], g.T[::2, 1::2], g[::2, 1::2], g.T[1::2, 1::2]]
    assert torch.equal(scan_order("atrous", 6, 8), torch.stack([part.flatten() for part in parts]))


def test_short_rows_end_in_minus_one() -> None:
    expected = [[0, 2, 6, 8], [3, 5, -1, -1], [1, 7, -1, -1], [4, -1, -1, -1]]
    assert scan_order("atrous", 3, 3).tolist() == expected
    assert scan_order("atrous", 1, 1).tolist() == [[0], [-1], [-1], [-1]]


def test_tables_are_kept() -> None:
    assert scan_order("cross", 5, 6) is scan_order("cross", 5, 6)
    assert scan_order("window", 5, 6) is scan_order("window:7", 5, 6, "cpu")


def test_kept_tables_serve_training_after_inference() -> None:
    with torch.inference_mode():
        table = scan_order("cross", 3, 101)
    assert not table.is_inference()
    assert scan_order("cross", 3, 101) is table


def test_fake_tables_are_not_kept() -> None:
    with FakeTensorMode():
        assert scan_order("snake", 3, 103).shape == (4, 309)
    assert type(scan_order("snake", 3, 103)) is Tensor


def test_only_so_many_tables_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_LIMIT", 2)
    monkeypatch.setattr(orders, "_tables", {})
    for width in range(1, 6):
        scan_order("raster", 1, width)
    assert len(orders._tables) <= 2


@pytest.mark.parametrize("name", ["crss", "cross:2", "window:", "window:0", "window:x", "atrous:-1", "", "Raster"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match="unknown scan order") as caught:
        scan_order(name, 4, 4)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["atrous:10", "atrous:999999", "window:10", "window:999999"])
def test_sizes_beyond_the_grid_are_refused(name: str) -> None:
    with pytest.raises(ScanArgumentError, match=rf"^scan order {name} does not fit a grid of 4 x 9 tokens.* up to 9$"):
        scan_order(name, 4, 9)


def test_default_sizes_serve_every_grid() -> None:
    assert torch.equal(scan_order("window", 2, 3), scan_order("bidirectional", 2, 3))
    assert len(scan_order("atrous", 1, 1)) == 4


@pytest.mark.parametrize("name", [None, 4, torch.zeros(1, 4)])
def test_names_that_are_no_strings(name: object) -> None:
    with pytest.raises(ValueError, match=r"^name is of type \w+, expected a string$"):
        scan_order(name, 2, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 4)])
def test_empty_grids(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"^height and width"):
        scan_order("cross", height, width)
