import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from distill.tasks.corruption.control import adaptive, cosine, linear, plateau, running

BAND = (1.05, 1.15)


@pytest.mark.parametrize("law", [linear, cosine])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.2, 0.9), (1.0, 0.25), (0.5, 0.5)])
def test_a_schedule_goes_one_way_and_stays_at_its_end(law: Callable[..., float], start: float, end: float) -> None:
    found = [law(step, start, end, 40) for step in range(60)]
    assert found[0] == pytest.approx(start)
    assert found[20] == pytest.approx((start + end) / 2)
    assert found[40:] == pytest.approx([end] * 20)
    assert all((b - a) * (end - start) >= -1e-12 for a, b in pairwise(found))


def test_a_cosine_is_flat_where_a_line_is_not() -> None:
    assert cosine(1, 0.0, 1.0, 100) < 0.05 * linear(1, 0.0, 1.0, 100)
    assert cosine(50, 0.0, 1.0, 100) - cosine(49, 0.0, 1.0, 100) == pytest.approx(math.pi / 200, rel=0.01)


def test_adaptive_goes_from_the_baseline_to_the_goal() -> None:
    found = adaptive(torch.tensor([1.2, 1.0, 0.875, 0.75, 0.5]), goal=0.75)
    assert found.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def controlled(gaps: Callable[[int, float], float], steps: int, start: float = 0.0) -> list[float]:
    """The strengths under plateau of a run whose gap is a function of step and strength, with noisy batches."""
    torch.manual_seed(0)
    strength, progress, reference = torch.tensor(start), torch.tensor(0.5), torch.tensor(0.5)
    found = []
    for step in range(steps):
        seen = 0.5 * gaps(step, float(strength)) * (1 + 0.05 * torch.randn(()))
        progress = running(progress, seen, 0.9)
        strength = plateau(strength, progress, reference, BAND, (0.0, 1.0), 50)
        found.append(float(strength))
    return found


def test_plateau_rises_to_the_end_where_corruption_costs_nothing() -> None:
    found = controlled(lambda step, strength: 0.98, 80)
    assert found[-1] == 1.0
    assert found == sorted(found)


@pytest.mark.parametrize("cost", [0.2, 0.4, 1.0])
def test_plateau_settles_where_corruption_costs_what_is_allowed(cost: float) -> None:
    found = controlled(lambda step, strength: 1 + cost * strength, 400)
    settled = found[200:]
    assert all(1 + cost * strength <= BAND[1] + 0.05 for strength in settled)
    assert all(1 + cost * strength >= BAND[0] - 0.05 for strength in settled)
    assert max(settled) - min(settled) < 0.2


def test_plateau_lowers_again_when_the_student_falls_behind_and_comes_back() -> None:
    found = controlled(lambda step, strength: 1 + (1.0 if 150 <= step < 300 else 0.02) * strength, 450)
    assert found[140] == 1.0
    assert found[290] < 0.3
    assert found[-1] == 1.0


def test_plateau_never_answers_a_worse_student_with_more_corruption() -> None:
    """In one step, whatever the state; it stays inside its bounds, and no step is larger than promised."""
    torch.manual_seed(1)
    strength = 0.2 + 0.6 * torch.rand(500)
    reference = torch.rand(500)
    progress = (2 * torch.rand(500, 20)).sort(dim=1).values
    found = torch.stack([plateau(strength, seen, reference, BAND, (0.2, 0.8), 30) for seen in progress.unbind(1)], 1)
    assert (found.diff(dim=1) <= 0).all()
    assert ((found >= 0.2) & (found <= 0.8)).all()
    assert ((found - strength[:, None]).abs() <= 0.6 / 30 + 1e-6).all()
    assert (found[:, 0] > strength).float().mean() > 0.9, "it does rise"
    assert (found[:, -1] < strength).float().mean() > 0.9, "it does fall"


def test_plateau_holds_between_its_thresholds_and_before_the_first_validation() -> None:
    strength = torch.tensor(0.5)
    for progress, reference in ((0.55, 0.5), (0.9, 0.0), (0.01, 0.0)):
        state = (strength, torch.tensor(progress), torch.tensor(reference))
        assert plateau(*state, BAND, (0.0, 1.0), 10) == 0.5
