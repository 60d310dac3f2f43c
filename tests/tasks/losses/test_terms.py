"""Each term against its formula, written out or taken from PyTorch, and its gradients against differences."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError
from distill.tasks.losses.features import TERMS, LossSettings, combine, evaluate
from distill.tasks.losses.relations import cka, gram

SHAPE = (2, 5, 3, 4)


def maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """An estimate, a target and its mean."""
    torch.manual_seed(seed)
    estimate, target = torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64) + 2
    return estimate, target, target.mean((0, 2, 3))


def value(name: str, estimate: Tensor, target: Tensor, mean: Tensor, **settings: Any) -> Tensor:
    """One term."""
    torch.manual_seed(3)
    own = LossSettings({name: 1.0}, **settings)
    generators = own.generators(target.shape[1]).to(estimate.dtype)
    return combine(own, evaluate(own, estimate, target, mean, generators), None)[name]


def _gram(estimate: Tensor, target: Tensor, mean: Tensor) -> Tensor:
    differences = []
    for one, other in zip(estimate, target, strict=True):
        for i in range(12):
            for j in range(12):
                mine, true = (F.cosine_similarity(*(x.reshape(5, 12)[:, k] for k in (i, j)), 0) for x in (one, other))
                differences.append((mine - true) ** 2)
    return torch.stack(differences).mean()


def _cka(estimate: Tensor, target: Tensor, mean: Tensor) -> Tensor:
    """By the cross-covariance of features: |YᵀX|² / (|XᵀX| |YᵀY|)."""
    found = []
    for one, other in zip(estimate, target, strict=True):
        x, y = (m.reshape(5, 12).T - m.reshape(5, 12).mean(1) for m in (one, other))
        found.append(1 - (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
    return torch.stack(found).mean()


def _cwd(estimate: Tensor, target: Tensor, mean: Tensor) -> Tensor:
    total = torch.zeros((), dtype=estimate.dtype)
    for image in range(2):
        for channel in range(5):
            own, true = ((m[image, channel] / 4).flatten().exp() for m in (estimate, target))
            own, true = own / own.sum(), true / true.sum()
            total = total + (true * (true / own).log()).sum()
    return 16 * total / 10


def _mgd(estimate: Tensor, target: Tensor, mean: Tensor) -> Tensor:
    torch.manual_seed(3)
    first, last = nn.Conv2d(5, 5, 3, padding=1).double(), nn.Conv2d(5, 5, 3, padding=1).double()
    kept = torch.rand(2, 1, 3, 4) >= 0.65
    return F.mse_loss(last(first(estimate * kept).relu()), target)


def _centred(estimate: Tensor, target: Tensor, mean: Tensor) -> Tensor:
    one, other = ((m.movedim(1, -1) - mean) for m in (estimate, target))
    return 1 - ((one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))).mean()


ORACLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "l1": lambda e, t, _: F.l1_loss(e, t),
    "l2": lambda e, t, _: F.mse_loss(e, t),
    "smooth_l1": lambda e, t, _: F.smooth_l1_loss(e, t),
    "cosine": lambda e, t, _: 1 - F.cosine_similarity(e, t).mean(),
    "centred_cosine": _centred,
    "gram": _gram,
    "cka": _cka,
    "cwd": _cwd,
    "mgd": _mgd,
}


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_its_formula(name: str) -> None:
    torch.testing.assert_close(value(name, *maps()), ORACLES[name](*maps()))


@pytest.mark.parametrize("name", TERMS)
def test_gradients(name: str) -> None:
    estimate, target, mean = maps(1)
    assert torch.autograd.gradcheck(lambda x: value(name, x, target, mean), estimate.requires_grad_())


@pytest.mark.parametrize("name", [name for name in TERMS if name != "mgd"])
def test_a_term_is_lowest_where_both_maps_are_equal(name: str) -> None:
    _, target, mean = maps(2)
    estimate = target.clone().requires_grad_()
    found = value(name, estimate, target, mean)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-9)
    assert estimate.grad is not None
    assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("name", TERMS)
def test_under_autocast_a_term_is_computed_in_fp32(name: str) -> None:
    estimate, target, mean = (x.float() for x in maps())
    with torch.autocast("cpu", torch.bfloat16):
        found = value(name, estimate, target, mean)
    assert torch.equal(found, value(name, estimate, target, mean))


def test_a_schedule_weighs_by_the_step() -> None:
    from distill.tasks.losses.schedule import Schedule

    settings = LossSettings({"l1": Schedule(1.0, 0.0, 4), "l2": 1.0})
    estimate, target, mean = maps()
    parts = evaluate(settings, estimate, target, mean, settings.generators(5))
    found = combine(settings, parts, None, step=1)
    torch.testing.assert_close(found["loss"], 0.75 * found["l1"] + found["l2"])


def test_relations_ignore_a_rotation_of_the_channels() -> None:
    estimate, _, _ = maps()
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    turned = torch.einsum("dc,bchw->bdhw", rotation, estimate)
    assert float(gram(estimate, turned, 99)) == pytest.approx(0, abs=1e-12)
    assert float(cka(estimate, 3 * turned, 99)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("relation", [gram, cka])
def test_of_many_positions_a_few_are_compared(relation: Callable[..., Tensor]) -> None:
    """The same of both maps; the largest tensor has as many elements as pairs of them."""
    torch.manual_seed(0)
    estimate, target = torch.randn(1, 8, 32, 32), torch.randn(1, 8, 32, 32)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            largest = max(largest, found.numel()) if isinstance(found, Tensor) else largest
            return found

    with Watch():
        assert float(relation(target, target, 64)) == pytest.approx(0, abs=1e-6)
        assert float(relation(estimate, target, 64)) > 0
    assert largest == 8 * 32 * 32


def test_a_centred_cosine_of_standardised_maps_is_the_cosine() -> None:
    estimate, target, mean = maps()
    zero = torch.zeros_like(mean)
    torch.testing.assert_close(value("centred_cosine", estimate, target, zero), value("cosine", estimate, target, zero))
    assert not math.isclose(float(value("centred_cosine", estimate, target, mean)), float(value("cosine", *maps())))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smooth_l1_beta": 0.0}, "smooth_l1_beta 0.0"),
        ({"cwd_temperature": -1.0}, "cwd_temperature -1.0"),
        ({"relation_tokens": 1}, "relation_tokens 1"),
        ({"mgd_masked": 1.0}, "mgd_masked is 1.0"),
        ({"standardize": "chanel"}, "standardize 'chanel': did you mean channel"),
    ],
)
def test_bad_settings_name_the_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossSettings(**settings)


def test_standardize_was_true_or_false_before() -> None:
    assert [LossSettings(standardize=way).standardize for way in (True, False)] == ["channel", "none"]
