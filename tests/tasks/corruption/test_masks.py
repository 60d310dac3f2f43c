from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from distill.tasks.corruption import Corruption, CorruptionSettings
from distill.tasks.corruption.masks import blocks, energy, enough_blocks, guided, ranks


def pieces(mask: Tensor) -> int:
    """Into how many pieces, connected by edges, the true cells (H, W) fall."""
    left = {(int(row), int(column)) for row, column in mask.nonzero()}
    found = 0
    while left:
        found, border = found + 1, [left.pop()]
        while border:
            row, column = border.pop()
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= near
            border += near
    return found


def masks(grid: tuple[int, int], area: tuple[float, float], fraction: float, images: int = 8) -> Iterator[Tensor]:
    """Block masks of images (H, W)."""
    count = grid[0] * grid[1]
    keys = blocks(torch.rand(images, count), grid, area, (0.5, 2.0), fraction)
    for rank in ranks(keys):
        yield (rank < round(fraction * count)).view(grid)


@pytest.mark.parametrize("grid", [(8, 8), (5, 13), (24, 3), (1, 40), (64, 64)])
def test_less_than_a_block_is_in_one_piece(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = list(masks(grid, (0.3, 0.4), 0.25))
    assert [int(mask.sum()) for mask in found] == [round(0.25 * grid[0] * grid[1])] * len(found)
    assert {pieces(mask) for mask in found} == {1}
    assert len({tuple(mask.flatten().tolist()) for mask in found}) > 1, "they differ between images"


def test_several_blocks_are_few_pieces_with_an_exact_fraction() -> None:
    torch.manual_seed(0)
    found = list(masks((16, 16), (0.05, 0.15), 0.4, images=50))
    assert {int(mask.sum()) for mask in found} == {102}
    assert max(pieces(mask) for mask in found) <= 9
    apart = torch.rand(50, 256).argsort(dim=1) < 102
    assert min(pieces(mask.view(16, 16)) for mask in apart) > 12, "what tokens masked one by one have"


def test_a_block_is_a_rectangle_of_the_area_and_aspect_that_were_asked_for() -> None:
    torch.manual_seed(0)
    keys = blocks(torch.rand(50, 400), (20, 20), (0.1, 0.3), (0.5, 2.0), 0.2)
    first = (keys < 40 * 400).view(50, 20, 20)
    heights, widths = first.any(2).sum(1), first.any(1).sum(1)
    assert torch.equal(heights * widths, first.sum((1, 2)))
    assert 36 <= (heights * widths).min() < 50
    assert 110 < (heights * widths).max() <= 130
    aspects = heights / widths
    assert 0.4 < aspects.min() < 0.6
    assert 1.6 < aspects.max() < 2.5


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_enough_blocks_for_every_fraction(fraction: float) -> None:
    torch.manual_seed(0)
    for mask in masks((12, 12), (0.03, 0.05), fraction):
        assert int(mask.sum()) == round(fraction * 144)
    assert enough_blocks(fraction, 0.03) < 350


def test_no_corner_is_left_out() -> None:
    torch.manual_seed(0)
    often = torch.stack(list(masks((8, 8), (0.05, 0.15), 0.25, images=1000))).float().mean(0)
    assert float(often.mean()) == pytest.approx(0.25)
    assert 0.08 < float(often.min()) < float(often.max()) < 0.4


def test_energy_is_the_departure_from_the_images_mean() -> None:
    target = torch.full((1, 6, 8, 12), 5.0)
    target[:, :, 2:4, 6:9] = 9.0
    target[:, :, 6, 0] = 1.0
    found = energy(target, (4, 4)).view(4, 4)
    assert found.argmax() == 1 * 4 + 2
    assert found[3, 0] > found[0, 0] > 0
    assert energy(target, (8, 12)).shape == (1, 96)
    torch.testing.assert_close(energy(target + 100, (4, 4)), found.view(1, 16), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guide", ["high", "low"])
def test_a_guide_hits_tokens_of_its_energy(guide: str) -> None:
    torch.manual_seed(0)
    energies = torch.rand(40, 100) ** 8  # few are high
    place = ranks(energies) if guide == "high" else 99 - ranks(energies)
    chosen = ranks(guided(torch.rand(40, 100), energies, guide)) < 20
    assert float((place[chosen] >= 50).float().mean()) > 0.93
    assert float(chosen[place == 99].float().mean()) > 0.6
    assert float(chosen[place < 10].float().mean()) < 0.03
    often = [float(chosen[place // 20 == fifth].float().mean()) for fifth in range(5)]
    assert all(one < other for one, other in pairwise(often))
    assert len({tuple(row) for row in chosen.int().tolist()}) == 40, "a draw, not the highest ones every time"


@pytest.mark.parametrize(
    ("shape", "guide"), [("block", "none"), ("token", "high"), ("token", "low"), ("block", "high")]
)
@pytest.mark.parametrize(("noise", "mask"), [(0.2, 0.2), (0.0, 0.6), (0.5, 0.5), (0.3, 0.0)])
def test_every_kind_of_mask_has_exact_fractions(shape: str, guide: str, noise: float, mask: float) -> None:
    torch.manual_seed(0)
    settings = CorruptionSettings(noise=noise, mask=mask, mask_shape=shape, guide=guide)
    corruption = Corruption(8, settings)
    with torch.no_grad():
        corruption.mask_token.fill_(7.0)
    tokens = torch.randn(3, 60, 8)
    corrupted, touched = corruption(tokens, (96, 160), torch.randn(3, 5, 12, 20))
    masked = (corrupted == 7.0).all(-1)
    noisy = ~masked & (corrupted != tokens).any(-1)
    assert masked.sum(1).tolist() == [round(mask * 60)] * 3
    assert noisy.sum(1).tolist() == [round(noise * 60)] * 3
    assert torch.equal(touched, masked | noisy)
    report = corruption.report()
    assert float(report["corruption/noise"]) == pytest.approx(noise, abs=1e-6)
    assert float(report["corruption/mask"]) == pytest.approx(mask, abs=1e-6)


def test_guided_blocks_lie_where_the_teacher_looks() -> None:
    torch.manual_seed(0)
    target = torch.zeros(30, 4, 16, 16)
    target[:, :, 10:14, 10:14] = 3.0
    settings = CorruptionSettings(noise=0.0, mask=0.1, mask_shape="block", guide="high", block_area=(0.1, 0.1))
    _, touched = Corruption(4, settings)(torch.randn(30, 256, 4), (256, 256), target)
    inside = touched.view(30, 16, 16)[:, 9:15, 9:15].float().mean()
    assert float(inside) > 2 * 0.1
