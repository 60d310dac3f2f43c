import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.tasks.matching.adapter import PROJECTIONS, Adapter, require_projection


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("sides", [(16, 24), (4, 6), (2, 3)])
def test_any_map_gets_the_targets_channels_and_grid(kind: str, sides: tuple[int, int]) -> None:
    adapter = Adapter(6, 10, kind)
    found = adapter(torch.randn(2, 6, *sides), (4, 6))
    assert found.shape == (2, 10, 4, 6)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_auto_projects_only_where_channels_differ() -> None:
    assert isinstance(Adapter(6, 6).projection, nn.Identity)
    assert isinstance(Adapter(6, 10).projection, nn.Conv2d)
    assert isinstance(Adapter(6, 6, "linear").projection, nn.Conv2d)


def test_the_projection_runs_on_the_coarser_grid() -> None:
    adapter = Adapter(6, 10, "mlp")
    seen = []
    adapter.projection.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:])))
    for sides in ((16, 24), (2, 3)):
        adapter(torch.randn(1, 6, *sides), (4, 6))
    assert seen == [(4, 6), (2, 3)]


def test_resampling_commutes_with_a_linear_projection() -> None:
    torch.manual_seed(0)
    adapter, maps = Adapter(6, 10, "linear"), torch.randn(1, 6, 16, 24)
    with torch.no_grad():
        first = Adapter(10, 10)(adapter.projection(maps), (4, 6))
        torch.testing.assert_close(adapter(maps, (4, 6)), first, rtol=1e-4, atol=1e-5)


def test_an_unknown_projection() -> None:
    with pytest.raises(UserError, match=r"model\.adapter 'liner': did you mean linear"):
        require_projection("model.adapter", "liner")
