import pytest
import torch

from distill.tasks.corruption import Corruption, CorruptionSettings
from distill.tasks.corruption.noise import scale


def noise(tokens: torch.Tensor, law: str, sigma: float | tuple[float, float] = 0.5) -> torch.Tensor:
    settings = CorruptionSettings(noise=1.0, mask=0.0, sigma=sigma, noise_scale=law)
    torch.manual_seed(0)
    return Corruption(tokens.shape[-1], settings)(tokens)[0] - tokens


def test_each_law_follows_what_it_names() -> None:
    """Tokens whose second half is ten times the first, and whose even channels are five times the odd ones."""
    torch.manual_seed(0)
    tokens = torch.randn(1, 2000, 64)
    tokens[:, 1000:] *= 10
    tokens[..., ::2] *= 5
    by_token, by_channel = {}, {}
    for law in ("token", "batch", "signal"):
        found = noise(tokens, law)
        by_token[law] = float(found[:, 1000:].std() / found[:, :1000].std())
        by_channel[law] = float(found[..., ::2].std() / found[..., 1::2].std())
    assert by_token == pytest.approx({"token": 10, "batch": 1, "signal": 10}, rel=0.05)
    assert by_channel == pytest.approx({"token": 1, "batch": 1, "signal": 5}, rel=0.05)


def test_noise_of_the_signal_leaves_zeros_and_is_relative_to_every_value() -> None:
    tokens = torch.full((1, 4000, 4), 3.0)
    tokens[..., 0] = 0.0
    found = noise(tokens, "signal", 0.5)
    assert (found[..., 0] == 0).all()
    assert float(found[..., 1:].std()) == pytest.approx(1.5, rel=0.03)


def test_an_image_draws_its_sigma_between_two() -> None:
    torch.manual_seed(0)
    found = noise(torch.randn(400, 64, 16), "token", (0.5, 1.5)).std(dim=(1, 2))
    assert 0.45 < float(found.min()) < 0.6
    assert 1.4 < float(found.max()) < 1.6
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("law", ["token", "batch", "signal"])
def test_no_gradient_flows_through_the_scale(law: str) -> None:
    assert not scale(torch.randn(1, 4, 8, requires_grad=True), law).requires_grad
