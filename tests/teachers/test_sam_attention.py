"""All ways to attend with relative positions give what the definition gives."""

from collections.abc import Callable

import pytest
import torch
from segment_anything.modeling.image_encoder import add_decomposed_rel_pos
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import flex_attention

from distill import linear
from teachers import sam_attention
from teachers.sam_attention import appended, attend, blocked, flexible, masked, materialised
from tests.operators import Operators

GRIDS = {"windows": (12, 14, 14), "wide": (3, 5, 9), "one row": (4, 1, 6), "one patch": (2, 1, 1)}


def tensors(groups: int, height: int, width: int, channels: int = 16, spread: float = 1.0) -> list[Tensor]:
    """Queries, keys, values, and the vectors of rows and columns: those of a table, as `attend` gets them."""
    generator = torch.Generator().manual_seed(0)
    qkv = [torch.randn(groups, height, width, channels, generator=generator) for _ in range(3)]
    tables = []
    for size in (height, width):
        table = spread * torch.randn(2 * size - 1, channels, generator=generator)
        tables.append(table[torch.arange(size)[:, None] - torch.arange(size) + size - 1])
    return [*qkv, *tables]


def flexible_eagerly(*arguments: Tensor) -> Tensor:
    return flexible(*arguments, flex_attention)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_definition_is_segment_anythings(grid: str) -> None:
    groups, height, width = GRIDS[grid]
    q, k, v, rows, columns = tensors(groups, height, width)
    scores = q.flatten(1, 2) * 16**-0.5 @ k.flatten(1, 2).transpose(1, 2)
    tables = (torch.cat((x[0].flip(0), x[1:, 0])) for x in (rows, columns))  # of relative positions -(n - 1) .. n - 1
    scores = add_decomposed_rel_pos(scores, q.flatten(1, 2), *tables, (height, width), (height, width))
    expected = (scores.softmax(-1) @ v.flatten(1, 2)).view_as(q)
    torch.testing.assert_close(materialised(q, k, v, rows, columns), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("function", [attend, blocked, masked, appended, flexible_eagerly])
def test_equal_the_definition(function: Callable[..., Tensor], grid: str) -> None:
    arguments = tensors(*GRIDS[grid])
    torch.testing.assert_close(function(*arguments), materialised(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("function", [attend, blocked, masked, appended, flexible_eagerly, materialised])
def test_a_part_of_the_grid_asks_the_whole_one(function: Callable[..., Tensor]) -> None:
    q, k, v, rows, columns = tensors(3, 5, 9)
    found = function(q[:, :2, :4].contiguous(), k, v, rows[:2], columns[:4])
    torch.testing.assert_close(found, materialised(q, k, v, rows, columns)[:, :2, :4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scores", [1, 14 * 196, 3 * 14 * 196, 5 * 196 * 196], ids=["line", "one", "lines", "groups"])
@pytest.mark.parametrize("function", [blocked, masked])
def test_blocks_of_any_size_give_the_same(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Tensor], scores: int
) -> None:
    """Three lines do not divide the window, five groups do not divide the twelve."""
    monkeypatch.setattr(sam_attention, "_SCORES", scores)
    arguments = tensors(*GRIDS["windows"])
    torch.testing.assert_close(function(*arguments), materialised(*arguments), rtol=1e-5, atol=1e-5)


def test_blocks_keep_memory_small() -> None:
    """An eighth of what the scores take: neither they nor the bias are there as a whole."""
    arguments = tensors(2, 32, 32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        blocked(*arguments)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest < 2 * 1024**2 * 4


@pytest.mark.parametrize("function", [appended, blocked, masked])
def test_bfloat16_rounds_queries_and_keys_but_not_their_sum(function: Callable[..., Tensor]) -> None:
    """A bias of 20 that is rounded to bfloat16 would be wrong by up to 0.06."""
    arguments = tensors(4, 9, 9, spread=4.0)
    coarse = [x.bfloat16() for x in arguments[:3]]
    expected = materialised(*(x.float() for x in coarse), *arguments[3:])
    found, rounded = function(*coarse, *arguments[3:]), materialised(*coarse, *arguments[3:])
    assert found.dtype == torch.bfloat16
    error, of_rounded = ((x.float() - expected).norm() / expected.norm() for x in (found, rounded))
    assert error < 0.02
    assert error < 0.75 * of_rounded


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("amd", [True, False])
def test_float32_is_by_onednn_on_amd_only(monkeypatch: pytest.MonkeyPatch, amd: bool) -> None:
    monkeypatch.setattr(linear, "_FASTER", amd)
    arguments = tensors(1, 32, 32)
    with torch.no_grad(), Operators() as ran:
        found = attend(*arguments)
    assert any("mkldnn" in name for name in ran.names) is amd
    torch.testing.assert_close(found, materialised(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("amd", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [14, 32], ids=["window", "global"])
def test_shapes_are_known_without_computing(
    monkeypatch: pytest.MonkeyPatch, side: int, dtype: torch.dtype, amd: bool
) -> None:
    monkeypatch.setattr(linear, "_FASTER", amd)
    monkeypatch.setattr(sam_attention, "_MATRIX_UNITS", False)
    with FakeTensorMode(), torch.no_grad():
        q, k, v = (torch.empty(2, side, side, 16, dtype=dtype) for _ in range(3))
        found = attend(q, k, v, torch.empty(side, side, 16), torch.empty(side, side, 16))
    assert (found.shape, found.dtype) == (q.shape, dtype)
