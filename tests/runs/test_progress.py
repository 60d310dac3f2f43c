"""What a run shows while it goes on, and that it always ends with a validation."""

import csv
import io
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from distill.cli import main
from distill.launch.quiet import quiet
from distill.runs.data_wait import DataWait
from distill.runs.displays import PlainProgress, TerminalProgress, progress_display
from distill.runs.estimate import Estimate, first_estimate, validations_left

# After the first step, in an epoch that is not validated by itself.
STOPPED_BY_TIME = [
    "--trainer.max_time=00:00:00:01",
    "--trainer.callbacks+=tests.launch.resuming.Slow",
    "--trainer.check_val_every_n_epoch=5",
    "--trainer.val_check_interval=1.0",
    "--trainer.max_steps=9",
]


def steps_with(metric: str, run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get(metric)]


def test_a_log_tells_every_phase_and_the_run_ends_with_a_validation(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    averaged = [
        "--data.image_size=32",
        "--trainer.callbacks+=distill.EMA",
        "--trainer.log_every_n_steps=5",
        "--trainer.max_steps=7",
    ]
    assert main(["fit", str(distill_recipe), *averaged]) == 0
    assert main(["validate", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    expected = [
        r"building the model",
        r"reading the data's index",
        r"measuring what the student costs at 32 px",
        r"12 training images, 4 images to validate on; 7 steps of 2 images",
        r"images of \d+ px, as the first one has, are scaled to 32 px \(data\.image_size\)",
        r"calibrating on 8 training images",
        r"training: 7 steps",
        r"step 1/7  loss \d\.\d{4}  \d+\.\d\d s/step  [\d.]+ images/s  data wait \d+%",  # no time left: it warms up
        r"estimate: [\d.]+ s a step of 2 images; 7 steps take about \d+ s and 2 validations; peak memory [\d.]+ GiB",
        r"scoring 4 images",
        r"step 4  val/l1_ratio \d\.\d{4}",
        r"step 7/7 .*  0 s left",
        r"step 7  val/l1_ratio \d\.\d{4}",
    ]
    lines = iter(said.out.splitlines())
    for pattern in expected:
        assert any(re.fullmatch(pattern, line) for line in lines), pattern
    assert said.err == ""
    assert [w.message for w in recwarn if not issubclass(w.category, DeprecationWarning)] == []  # shown to nobody
    assert steps_with("val/l1", tmp_path / "run") == [3, 6]  # counted from 0
    assert "val/l1_ratio" in json.loads((tmp_path / "run" / "summary.json").read_text())


@pytest.mark.parametrize(("batch", "seen"), [(2, 12), (5, 10), (100, 12)])
def test_calibration_tells_how_many_images_there_are(
    batch: int, seen: int, distill_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 12 training images and 64 that the recipe asks for; what fills no batch is left out of an epoch."""
    words = ["--model.calibration_images=64", f"--data.batch_size={batch}", "--trainer.max_steps=1"]
    assert main(["fit", str(distill_recipe), *words, "--trainer.limit_val_batches=0"]) == 0
    assert f"calibrating on {seen} training images\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "validated"),
    [
        (["--trainer.max_steps=3", "--trainer.val_check_interval=100"], [2]),
        (["--trainer.max_steps=4", "--trainer.val_check_interval=2"], [1, 3]),
        (["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2", "--trainer.val_check_interval=1.0"], [3, 5]),
        (["--trainer.max_steps=3", "--trainer.accumulate_grad_batches=2"], [1, 2]),  # the interval counts batches
        (["--trainer.max_steps=2", "--trainer.limit_val_batches=0"], []),
        (STOPPED_BY_TIME, [0]),
    ],
)
def test_the_last_step_is_validated_once(
    distill_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], validated: list[int]
) -> None:
    words = [*arguments, "--trainer.max_steps=-1"] if "max_epochs" in arguments[0] else arguments
    assert main(["fit", str(distill_recipe), "--data.batch_size=6", *words]) == 0
    assert steps_with("val/l1", tmp_path / "run") == validated
    assert ("it is validated once" in caplog.text) == (validated == [2])


def display(kind: type[TerminalProgress] | type[PlainProgress], width: int = 100) -> tuple[object, io.StringIO]:
    """In the middle of a long run, printing into a file."""
    shown = kind(DataWait(), lambda: "smaller")
    written = io.StringIO()
    terminal = kind is TerminalProgress
    shown.console = Console(file=written, width=width, force_terminal=terminal, highlight=False, legacy_windows=False)
    shown.step, shown.total, shown.loss = 12345, 25000, 0.08412
    shown.scores = {"val/box/AP": 0.1, "val/mask/AP": 0.0912}
    shown._durations.append(26.5)
    shown._images_per_step = 4
    return shown, written


@pytest.mark.parametrize("width", [100, 80])
def test_the_bar_is_one_line_of_the_whole_run(width: int) -> None:
    shown, _ = display(TerminalProgress, width)
    trainer = SimpleNamespace(enable_validation=False)
    shown.show_start(trainer)
    shown.show_step(trainer)
    bar = shown._bar
    shown.close()
    plain = Console(file=io.StringIO(), width=width, highlight=False)
    plain.print(bar.get_renderable())
    (line,) = plain.file.getvalue().splitlines()
    assert len(line) <= width
    assert re.fullmatch(r"step 12345/25000 ━+\S* *loss 0\.0841  AP 9\.1 %  0\.15 img/s 3 days 21 h left *", line), line


def test_a_log_has_the_first_step_then_lines_by_time_and_by_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, written = display(PlainProgress)
    now = [0.0]
    monkeypatch.setattr("distill.runs.displays.time.perf_counter", lambda: now[0])
    trainer = SimpleNamespace(enable_validation=False)
    for shown.step in range(1, 2501):
        now[0] += 26.5 if shown.step <= 6 else 0.001
        shown.show_step(trainer)
    steps = [int(number) for number in re.findall(r"step (\d+)/25000", written.getvalue())]
    assert steps == [1, 4, 1250, 2500]


def estimate(step: float, steps: int, device: str = "cpu") -> Estimate:
    return Estimate(step, 4, steps, 0, 50, torch.device(device))


def test_a_long_run_is_told_of_a_smaller_one() -> None:
    text = first_estimate(estimate(48.6, 25000), lambda: "smaller")
    assert text.startswith(
        "estimate: 48.60 s a step of 4 images; 25,000 steps take about 14 days 1 h and 50 validations"
    )
    assert text.endswith("GiB\nsmaller")
    assert estimate(11, 3).is_long  # steps that are no fun on a CPU
    assert not estimate(1, 300).is_long
    assert not estimate(1, 40000, "cuda").is_long
    assert estimate(1, 50000, "cuda").is_long


@pytest.mark.parametrize(
    ("settings", "step", "total", "left"),
    [
        ({}, 0, 25000, 50),
        ({}, 3, 7, 1),
        ({}, 499, 1001, 3),
        ({}, 1000, 1000, 0),
        ({"accumulate_grad_batches": 2}, 0, 500, 2),
        # Epochs of 12 batches, in each of which an interval counts anew.
        ({"num_training_batches": 12, "val_check_batch": 5, "check_val_every_n_epoch": 1}, 0, 36, 7),
        ({"num_training_batches": 12, "val_check_batch": 5, "check_val_every_n_epoch": 1}, 10, 36, 5),
        ({"num_training_batches": 12, "val_check_batch": 4, "check_val_every_n_epoch": 2}, 0, 48, 6),
        ({"num_training_batches": 12, "val_check_batch": 12, "check_val_every_n_epoch": 2}, 0, 36, 2),
        ({"num_training_batches": 3, "val_check_batch": 6, "accumulate_grad_batches": 2}, 0, 4, 1),
        ({"enable_validation": False}, 0, 1000, 0),
    ],
)
def test_validations_that_are_left(settings: dict[str, object], step: int, total: int, left: int) -> None:
    trainer = {"enable_validation": True, "accumulate_grad_batches": 1, "num_training_batches": 10**6}
    trainer |= {"val_check_batch": 500, "check_val_every_n_epoch": None}
    assert validations_left(SimpleNamespace(**trainer | settings), step, total) == left


def test_a_notebook_with_widgets_has_a_bar_and_one_without_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_jupyter=True)
    monkeypatch.setattr("distill.runs.displays.line_console", lambda: console)
    for widgets, expected in ((True, TerminalProgress), (False, PlainProgress)):
        monkeypatch.setattr("distill.phases.find_spec", lambda name, found=widgets: object() if found else None)
        assert type(progress_display(DataWait(), str)) is expected


def test_warnings_say_that_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of pytest; nobody has set up logging
    with quiet():
        logging.getLogger("distill.runs.announcement").warning("the run has %d steps", 3)
    assert capsys.readouterr().err == "warning: the run has 3 steps\n"
