import pytest
import torch

from distill.errors import UserError
from distill.tasks.corruption import Corruption, CorruptionSettings, from_patches, to_patches


@pytest.mark.parametrize(("noise", "mask"), [(0.2, 0.2), (0.3, 0.3), (0.1, 0.0), (0.0, 0.1), (0.0, 0.0)])
def test_fractions_are_exact_and_disjoint(noise: float, mask: float) -> None:
    torch.manual_seed(0)
    corruption = Corruption(8, CorruptionSettings(noise=noise, mask=mask))
    with torch.no_grad():
        corruption.mask_token.fill_(7.0)
    tokens = torch.randn(3, 100, 8)
    corrupted, touched = corruption(tokens)
    masked = (corrupted == 7.0).all(-1)
    noisy = ~masked & (corrupted != tokens).any(-1)
    assert masked.sum(1).tolist() == [round(mask * 100)] * 3
    assert noisy.sum(1).tolist() == [round(noise * 100)] * 3
    assert torch.equal(touched, masked | noisy)
    assert torch.equal(corrupted[~touched], tokens[~touched])


def test_sets_differ_between_images_and_repeat_with_the_seed() -> None:
    corruption = Corruption(4, CorruptionSettings())
    tokens = torch.randn(2, 64, 4)
    torch.manual_seed(5)
    first = corruption(tokens)[1]
    torch.manual_seed(5)
    again = corruption(tokens)[1]
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_token_noise_follows_each_tokens_own_standard_deviation() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1, 2000, 64)
    tokens[:, 1000:] *= 10
    difference = {}
    for scale in ("token", "batch"):
        corruption = Corruption(64, CorruptionSettings(noise=1.0, mask=0.0, sigma=0.5, noise_scale=scale))
        noise = corruption(tokens)[0] - tokens
        difference[scale] = (noise[:, 1000:].std() / noise[:, :1000].std()).item()
    assert difference["token"] == pytest.approx(10, rel=0.05)
    assert difference["batch"] == pytest.approx(1, rel=0.05)


def test_adaptive_ratio_grows_as_the_student_leaves_the_baseline() -> None:
    corruption = Corruption(4, CorruptionSettings(noise=0.4, mask=0.4, ratio="adaptive", goal=0.5))
    tokens = torch.randn(1, 100, 4)
    assert corruption(tokens)[1].sum() == 0
    for _ in range(500):
        corruption.observe(torch.tensor(0.75))
    assert corruption.factor().item() == pytest.approx(0.5, abs=0.01)
    assert corruption(tokens)[1].sum() == 40
    for _ in range(500):
        corruption.observe(torch.tensor(0.3))
    assert corruption.factor() == 1


def test_the_control_survives_a_checkpoint() -> None:
    corruption = Corruption(4, CorruptionSettings(ratio="adaptive"))
    corruption.observe(torch.tensor(0.2))
    other = Corruption(4, CorruptionSettings(ratio="adaptive"))
    other.load_state_dict(corruption.state_dict())
    assert other.factor() == corruption.factor() > 0


def test_gradient_reaches_the_mask_token_and_the_clean_tokens() -> None:
    corruption = Corruption(4, CorruptionSettings(noise=0.25, mask=0.25))
    tokens = torch.randn(2, 16, 4, requires_grad=True)
    corrupted, _ = corruption(tokens)
    corrupted.sum().backward()
    assert corruption.mask_token.grad is not None
    assert corruption.mask_token.grad.tolist() == [8.0] * 4
    assert tokens.grad is not None
    assert (tokens.grad == 0).all(-1).sum() == 8


def test_patches_round_trip_on_odd_grids() -> None:
    images = torch.randn(2, 3, 48, 80)
    tokens = to_patches(images, 16)
    assert tokens.shape == (2, 15, 768)
    assert torch.equal(tokens[0, 1].view(3, 16, 16), images[0, :, :16, 16:32])
    assert torch.equal(from_patches(tokens, 16, (48, 80)), images)
    with pytest.raises(UserError, match="does not divide"):
        to_patches(images, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.2}, "fraction"),
        ({"noise": 0.6, "mask": 0.6}, "disjoint"),
        ({"sigma": -1.0}, "negative"),
        ({"noise_scale": "tokne"}, "did you mean token"),
        ({"ratio": "adaptiv"}, "did you mean adaptive"),
        ({"level": "pixel"}, "valid names are token, image"),
        ({"goal": 1.0}, "goal"),
    ],
)
def test_bad_settings_name_the_key(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        CorruptionSettings(**settings)
    assert "model.corruption." in str(caught.value)
