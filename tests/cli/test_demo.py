"""What `distill demo` makes of its runs; `make study` trains them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.errors import Stopped, UserError
from distill.launch import demo
from distill.runs.folder import RunState
from tests.run_folders import write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo whose runs are there already."""
    place = tmp_path / "the demo"
    scores = {"test/mask/AP": 0.1, "test/box/AP": 0.2, "test/box/AP50": 0.3}
    write_run(place / "teacher", scores=scores)
    weights = str(place / "distill" / "student.safetensors")
    arguments = {"model.init_args.target": "embedding"}
    write_run(place / "distill", "distillation", weights=str(place / "teacher/student.safetensors"), recipe=arguments)
    write_run(place / "scratch", scores=scores, recipe={"model.init_args.optim.lr": 0.002})
    write_run(place / "random", scores=scores, recipe={"run.reference": "random"})
    write_run(place / "all_labels", scores=scores, recipe={"run.reference": "all-labels"})
    write_run(place / "distilled", init="distilled", weights=weights, scores=scores)
    monkeypatch.setattr(demo, "SCENES", {"test": 1})
    monkeypatch.setattr(demo, "_probe", lambda runs, data: None)
    monkeypatch.setattr(demo, "_side_by_side", lambda *words: None)
    monkeypatch.setattr("distill.launch.api.test", lambda run: None)
    for setting in ("_SECONDS", "_MOST"):
        monkeypatch.setattr(f"distill.evaluation.turns.{setting}", 0.01)
    return place


def test_it_ends_with_the_comparison(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--dir", str(folder)]) == 0
    content = json.loads((folder / "compare" / "compare.json").read_text())
    assert {Path(run).name for part in content["sections"] for row in part["rows"] for run in row["runs"]} == {
        *demo.RUNS
    }
    assert content["measured"]["rounds"] >= 5
    lines = capsys.readouterr().out.splitlines()
    assert f"  {folder / 'compare' / 'compare.html'}" in lines
    assert (folder / "compare" / "compare.html").stat().st_size > 10_000
    assert f"  {demo.next_commands(folder)[0][1]}" in lines


def test_a_weak_teacher_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["demo", "--dir", str(folder)]) == 0
    assert "The teacher reaches 30.0 box AP50, less than 45: it is too weak" in capsys.readouterr().out
    monkeypatch.setattr(demo, "GOOD_TEACHER", 0.3)
    assert main(["demo", "--dir", str(folder)]) == 0
    assert "too weak" not in capsys.readouterr().out


def test_a_page_does_not_outlive_its_teacher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["demo", "--dir", str(folder)]) == 0

    def stopped(*words: Any) -> None:
        raise UserError("stopped")

    monkeypatch.setattr(demo, "_side_by_side", stopped)
    assert main(["demo", "--dir", str(folder)]) == 2
    assert list((folder / "compare").iterdir()) == []


def test_what_it_says_first(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does, how long that takes, where the log is; and headers in one piece at any width."""
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["demo", "--dir", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 trainings and a comparison, 6 to 12 minutes on 2 CPU cores.")
    assert lines[0].endswith(f"4 to 6 run beside them, and their log is {folder / 'scratch.log'}")
    assert lines[1] == f"drawing 1 scenes, seed 0, into {folder / 'data'}"
    assert "distill fit demo/teacher, demo/distill, demo/distilled" in lines
    assert f"distill fit demo/scratch, demo/random, demo/all_labels > {folder / 'scratch.log'}" in lines
    assert main(["demo", "--dir", str(folder)]) == 0
    assert "there already: 1 scenes of seed 0" in capsys.readouterr().out.splitlines()


def test_what_is_there_is_not_run_again(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists: list[list[tuple[str, list[str]]]] = []
    monkeypatch.setattr(demo, "_side_by_side", lambda hidden, log, shown: lists.extend([hidden, shown]))
    found = dict.fromkeys(demo.RUNS, RunState.FRESH)
    found |= {"teacher": RunState.FINISHED, "distill": RunState.INTERRUPTED}
    monkeypatch.setattr(demo, "states", lambda runs, fits, needs: found)
    monkeypatch.setattr(demo, "is_scored", lambda run: run.name == "teacher")
    assert main(["demo", "--dir", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert {f"there already: {folder / 'teacher'}", f"goes on: {folder / 'distill'}"} <= set(said)
    hidden, shown = lists
    assert [words[:2] for _, words in shown] == [
        *(["fit", "demo/distill"], ["fit", "demo/distilled"], ["test", str(folder / "distilled")])
    ]
    assert [words[-1] for _, words in shown[:2]] == ["--ckpt_path=last", "--run.overwrite=true"]
    assert [words[0] for _, words in hidden] == ["fit"] * 3 + ["test"] * 3
    assert [title.partition(":")[0] for title, _ in (*shown, *hidden)] == [
        *("training 2 of 6", "training 3 of 6", "scoring distilled"),
        *("training 4 of 6", "training 5 of 6", "training 6 of 6"),
        *("scoring scratch", "scoring random", "scoring all_labels"),
    ]
    assert sorted(demo.NUMBERED) == sorted(demo.RUNS)


def test_fresh_starts_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*words: Any) -> None:
        raise KeyboardInterrupt

    (folder / "teacher" / "notes.txt").write_text("mine")
    monkeypatch.setattr(demo, "_side_by_side", stopped)
    assert main(["demo", "--dir", str(folder)]) == 130
    assert (folder / "teacher" / "recipe.yaml").is_file()
    assert main(["demo", "--dir", str(folder), "--fresh"]) == 130
    assert [path.name for path in (folder / "teacher").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("seed", [0, 3])
def test_ctrl_c_says_how_to_go_on(
    folder: Path, seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*words: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_side_by_side", stopped)
    assert main(["demo", "--dir", str(folder), "--seed", str(seed)]) == 130
    same = f" --seed {seed}" if seed else ""
    assert capsys.readouterr().err == f"distill: stopped; go on with: distill demo --dir '{folder}'{same}\n"


def test_lists_of_commands_end_when_one_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is asked to stop, too."""
    monkeypatch.setattr(demo, "_OWN_END", 0.2)
    start = time.monotonic()
    sleeping = ["-c", "import time; time.sleep(60)"]
    stopping = ["-c", "import sys; sys.exit(130)"]
    started = subprocess.Popen
    both: list[subprocess.Popen[bytes]] = []

    def popen(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        both.append(started([sys.executable, *(sleeping if options["stdout"] else stopping)], **options))
        return both[-1]

    monkeypatch.setattr(demo.subprocess, "Popen", popen)
    with pytest.raises(Stopped):
        demo._side_by_side([("one", ["recipes"])], tmp_path / "log", [("other", ["recipes"])])
    assert [process.poll() is not None for process in both] == [True, True]
    assert time.monotonic() - start < 30


def test_a_command_that_fails_beside_others_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = ("training 1 of 2: a", ["recipes"]), ("training 2 of 2: b", ["compare", "nowhere"])
    with pytest.raises(UserError, match=r"ended with exit code 2; the last lines of .*log say which and why"):
        demo._side_by_side([first, second, first], log, [first])
    # What is shown of the other list is left alone: it was stopped, at any line.
    listed, error = log.read_text().split("distill: error: ")
    assert sum(line.startswith("rs4d_small ") for line in listed.splitlines()) == 1
    assert [line for line in listed.splitlines() if line.startswith("training")] == [first[0], second[0]]
    hidden_lines = error.splitlines()
    assert "nowhere" in hidden_lines[0]
    # What comes after a failure is not run.
    assert hidden_lines[1:] == ["distill: `distill compare nowhere` ended with exit code 2"]
