import pytest
import torch

from distill.errors import UserError
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.matching.standardize import hadamard, phi_s

WIDTHS = (4, 12, 20, 24, 28, 36, 40, 64, 192, 256, 320, 384, 768, 1024, 1152, 1280)


def correlated(channels: int) -> torch.Tensor:
    """Maps (6, C, 8, 8) of channels of different scales, which go together."""
    torch.manual_seed(0)
    mixed = torch.randn(channels, channels) * torch.logspace(-2, 1, channels)
    return torch.einsum("dc,kchw->kdhw", mixed, torch.randn(6, channels, 8, 8)) + 5 * torch.randn(channels, 1, 1)


@pytest.mark.parametrize("order", WIDTHS)
def test_a_hadamard_matrix(order: int) -> None:
    found = hadamard(order)
    assert found is not None
    assert (found.abs() == 1).all()
    assert torch.equal(found @ found.T, order * torch.eye(order, dtype=found.dtype))


def test_orders_that_are_not_built() -> None:
    assert [hadamard(order) for order in (3, 6, 92)] == [None] * 3
    with pytest.raises(UserError, match="standardize is phi_s, but the target has 6 channels"):
        phi_s(torch.randn(2, 6, 2, 2))


def test_every_channel_has_unit_variance_and_all_directions_one_scale() -> None:
    maps = correlated(24)
    statistics = TargetStatistics.of([maps], 6, rotated=True)
    scores = statistics.z_scores(maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(statistics.z_scores(maps), scores)
    std, mean = torch.std_mean(scores, dim=(0, 2, 3))
    torch.testing.assert_close(std, torch.ones(24), rtol=1e-3, atol=0)
    torch.testing.assert_close(mean, torch.zeros(24), rtol=0, atol=1e-4)
    distances, before = (x[0].flatten(1).T for x in (scores, maps))
    ratio = torch.pdist(distances) / torch.pdist(before)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)
    torch.testing.assert_close(statistics.raw(scores), maps, rtol=1e-4, atol=1e-3)
    assert statistics.rms() == pytest.approx(float(maps.square().mean().sqrt()), rel=5e-3)  # of a sample


def test_the_baseline_is_that_of_the_rotated_maps() -> None:
    maps = correlated(12)[:5]
    statistics = TargetStatistics.of([maps], 5, rotated=True)
    scores = statistics.z_scores(maps)
    torch.testing.assert_close(statistics.standardized().median, scores.median(dim=0).values, rtol=1e-4, atol=1e-4)
