"""Models timed in turns, on a machine and with models whose times are planted."""

import random
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from distill.evaluation.turns import estimated_seconds, take_turns

PLANTED = {"a": 0.004, "b": 0.005, "c": 0.012}


class Machine:
    """Runs passes of planted length; `slowness` of the machine changes from pass to pass."""

    def __init__(self, slowness: Iterator[float]) -> None:
        self.slowness = slowness
        self.ran: list[str] = []

    def passes(self, planted: dict[str, float]) -> dict[str, Callable[[], float]]:
        return {name: lambda name=name, seconds=seconds: self._run(name, seconds) for name, seconds in planted.items()}

    def _run(self, name: str, seconds: float) -> float:
        self.ran.append(name)
        return seconds * next(self.slowness)


def busy_half_of_the_time(passes: int) -> Iterator[float]:
    """Times vary by 1 %; three times as long during every other stretch of `passes`."""
    noise = random.Random(1)
    return ((3.0 if index // passes % 2 else 1.0) * (1 + 0.01 * noise.random()) for index in _count())


def _count() -> Iterator[int]:
    index = 0
    while True:
        yield index
        index += 1


def test_a_quiet_machine() -> None:
    turns = take_turns(Machine(cycle([1.0])).passes(PLANTED))
    assert turns.seconds == pytest.approx(PLANTED)
    assert (turns.error, turns.slowdown) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


@pytest.mark.parametrize("stretch", [7, 100, 1000])
def test_what_slows_all_models_for_half_of_the_time_changes_none(stretch: int) -> None:
    turns = take_turns(Machine(busy_half_of_the_time(stretch)).passes(PLANTED))
    for name, seconds in PLANTED.items():
        assert turns.seconds[name] / turns.seconds["a"] == pytest.approx(seconds / PLANTED["a"], rel=0.03)
        assert turns.seconds[name] == pytest.approx(seconds, rel=0.05)


def test_a_first_pass_of_a_turn_does_not_count() -> None:
    machine = Machine(cycle([1.0]))
    passes = machine.passes(PLANTED)

    def cold() -> float:
        first = len(machine.ran) < 2 or machine.ran[-1] != "a"
        return passes["a"]() * (2.5 if first else 1.0)

    assert take_turns({**passes, "a": cold}).seconds["a"] == pytest.approx(PLANTED["a"])


def test_turns_vary_in_order_and_slow_models_have_five() -> None:
    state = random.getstate()
    machine = Machine(cycle([1.0]))
    planted = {"fast": 0.1, "other": 0.1, "slow": 7.0}
    turns = take_turns(machine.passes(planted))
    assert turns.seconds == pytest.approx(planted)
    assert machine.ran.count("slow") == 5
    assert machine.ran.count("fast") == machine.ran.count("other") == turns.rounds == 15
    assert len({tuple(machine.ran[start : start + 3]) for start in range(0, 15, 3)}) > 1
    assert random.getstate() == state
    assert estimated_seconds(planted) == 1.5 + 1.5 + 35


def test_a_fast_model_that_runs_on_alone_changes_none() -> None:
    """Most rounds are its own, in which it is as fast as a model that finds its own in the caches."""
    planted = {"fast": 0.12, "middle": 0.4, "slow": 1.0}
    machine = Machine(cycle([1.0]))
    passes = machine.passes(planted)

    def alone() -> float:
        return passes["fast"]() * (0.8 if machine.ran[-2:] == ["fast", "fast"] else 1.0)

    turns = take_turns({**passes, "fast": alone})
    assert turns.rounds > 2 * machine.ran.count("slow")
    for name, seconds in planted.items():
        assert turns.seconds[name] == pytest.approx(seconds, rel=0.02)


def test_imprecise_times_get_more_passes_but_not_for_ever() -> None:
    noise = random.Random(2)
    machine = Machine(noise.uniform(0.2, 3.0) for _ in _count())
    turns = take_turns(machine.passes({"a": 0.1, "b": 0.1}))
    assert turns.error > 0.02
    assert 0.1 * 3.0 * machine.ran.count("a") >= 6.0
    assert len(machine.ran) < 2 * 6.0 / 0.1 / 0.2
    one = take_turns(Machine(cycle([1.0])).passes({"a": 0.1}))
    assert one.seconds == pytest.approx({"a": 0.1})
