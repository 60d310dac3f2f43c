import pytest
import torch

from distill.errors import UserError
from distill.tasks.corruption import Corruption, CorruptionSettings


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
    corruption = Corruption(4, CorruptionSettings(noise=0.2, mask=0.2))
    tokens = torch.randn(2, 64, 4)
    torch.manual_seed(5)
    first = corruption(tokens)[1]
    torch.manual_seed(5)
    again = corruption(tokens)[1]
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_adaptive_strength_grows_as_the_student_leaves_the_baseline() -> None:
    corruption = Corruption(4, CorruptionSettings(noise=0.4, mask=0.4, control="adaptive", goal=0.5))
    tokens = torch.randn(1, 100, 4)
    assert corruption(tokens)[1].sum() == 0
    for _ in range(500):
        corruption.observe(torch.tensor(0.75))
    assert corruption.factor().item() == pytest.approx(0.5, abs=0.01)
    assert corruption(tokens)[1].sum() == 40
    for _ in range(500):
        corruption.observe(torch.tensor(0.3))
    assert corruption.factor() == 1


@pytest.mark.parametrize("control", ["fixed", "linear", "cosine", "adaptive", "plateau"])
def test_the_control_survives_a_checkpoint(control: str) -> None:
    corruption = Corruption(4, CorruptionSettings(control=control, steps=20))
    corruption.observe_clean(0.4)
    for step in range(20):
        corruption.at(step)
        corruption.observe(torch.tensor(0.3))
    other = Corruption(4, CorruptionSettings(control=control, steps=20))
    other.load_state_dict(corruption.state_dict())
    assert other.factor() == corruption.factor() > 0
    assert other.report().keys() == corruption.report().keys()
    for one in (corruption, other):
        one.observe(torch.tensor(0.9))
    assert other.factor() == corruption.factor()


@pytest.mark.parametrize(("control", "expected"), [("linear", [0.0, 0.25, 0.5]), ("cosine", [0.0, 0.146447, 0.5])])
def test_a_schedule_sets_the_fractions_of_a_step(control: str, expected: list[float]) -> None:
    corruption = Corruption(4, CorruptionSettings(noise=0.4, mask=0.4, control=control))
    corruption.begin(8)
    tokens = torch.randn(2, 100, 4)
    for step, strength in zip((0, 2, 4), expected, strict=True):
        corruption.at(step)
        assert corruption(tokens)[1].sum(1).tolist() == [2 * round(40 * strength)] * 2
        report = corruption.report()
        assert float(report["corruption/strength"]) == pytest.approx(strength, abs=1e-6)
        assert float(report["corruption/mask"]) == pytest.approx(round(40 * strength) / 100)


@pytest.mark.parametrize("control", ["linear", "plateau"])
def test_a_run_without_a_number_of_steps_is_refused(control: str) -> None:
    with pytest.raises(UserError, match=r"model\.corruption\.steps is null.*set model\.corruption\.steps"):
        Corruption(4, CorruptionSettings(control=control)).begin(-1)
    Corruption(4, CorruptionSettings(control=control, steps=5)).begin(-1)
    Corruption(4, CorruptionSettings()).begin(-1)


def test_plateau_follows_training_and_validation() -> None:
    corruption = Corruption(4, CorruptionSettings(control="plateau", start=0.1, end=0.9, steps=8))
    assert float(corruption.factor()) == pytest.approx(0.1)
    for _ in range(30):
        corruption.observe(torch.tensor(0.5))
    assert float(corruption.factor()) == pytest.approx(0.1), "no validation yet"
    corruption.observe_clean(0.52)
    for _ in range(30):
        corruption.observe(torch.tensor(0.5))
    assert float(corruption.factor()) == pytest.approx(0.9)
    for _ in range(30):
        corruption.observe(torch.tensor(0.8))
    assert float(corruption.factor()) == pytest.approx(0.1)
    assert corruption.report().keys() >= {"corruption/reference", "corruption/progress", "corruption/strength"}


@pytest.mark.parametrize("shape", ["token", "block"])
def test_gradient_reaches_the_mask_token_where_masked_and_the_tokens_elsewhere(shape: str) -> None:
    corruption = Corruption(4, CorruptionSettings(noise=0.25, mask=0.25, mask_shape=shape))
    tokens = torch.randn(2, 16, 4, requires_grad=True)
    corrupted, _ = corruption(tokens)
    weights = torch.rand(2, 16, 4)
    (corrupted * weights).sum().backward()
    masked = (corrupted == corruption.mask_token).all(-1)
    assert masked.sum() == 8
    assert corruption.mask_token.grad is not None
    torch.testing.assert_close(corruption.mask_token.grad, weights[masked].sum(0))
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad, torch.where(masked[..., None], 0.0, weights))
