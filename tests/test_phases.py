"""What a run says before and after its steps."""

from collections.abc import Iterator

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from distill import phases
from distill.phases import phase, tracked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test moves it."""
    now = [0.0]
    monkeypatch.setattr(phases.time, "perf_counter", lambda: now[0])
    return now


def test_a_log_hears_of_a_phase_before_it_and_by_time(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with phase("calibrating", 10) as advance:
        assert capsys.readouterr().out == "calibrating\n"
        for _ in range(10):
            clock[0] += 12
            advance(1)
    assert capsys.readouterr().out.splitlines() == [
        "calibrating: 3/10, 84 s left",
        "calibrating: 6/10, 48 s left",
        "calibrating: 9/10, 12 s left",
        "calibrating: 120 s",
    ]


def test_a_short_phase_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("reading"):
        pass
    assert capsys.readouterr().out == "reading\n"


def test_tracking_ends_with_the_batch_that_completes_it(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Though whoever takes the batches asks for no more, and then does something else."""
    made = []

    def batches() -> Iterator[torch.Tensor]:
        for number in range(9):
            clock[0] += 6
            made.append(number)
            yield torch.zeros(4, 1)

    counted = 0
    for batch in tracked("calibrating", batches(), 10):
        counted += len(batch)
        if counted >= 10:
            clock[0] += 1000
            break
    assert made == [0, 1, 2]
    assert capsys.readouterr().out.splitlines() == ["calibrating", "calibrating: 18 s"]
    assert [len(batch) for batch in tracked("calibrating", [torch.zeros(4), torch.zeros(4)], 100)] == [4, 4]


def test_other_processes_are_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with phase("calibrating", 10) as advance:
        advance(10)
    assert capsys.readouterr().out == ""
