"""The command for a machine with a GPU: its limits, and that what it would run there is understood."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.synthetic.scenes import write_scenes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu

        yield gpu
    sys.modules.pop("gpu")


def test_without_a_gpu_there_is_one_line(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    assert gpu.main() == 2
    assert "finds no CUDA GPU; nothing was run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_recipe_and_key_is_known(gpu: Any, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", "train", 1, 64, seed=0)
    commands = [stage.words for stage in gpu.stages(tmp_path) if stage.words[:2] == ["-m", "distill"]]
    assert len(commands) == 5
    for _, _, _, *words in commands:
        if "--out" in words:
            del words[words.index("--out") :]
        recipe, overrides = split(words)
        assert recipe is not None
        check("fit", recipe, overrides, complete=True)


def test_every_script_knows_its_options(gpu: Any, tmp_path: Path) -> None:
    for stage in gpu.stages(tmp_path):
        if stage.words[0].endswith(".py"):
            text = Path(stage.words[0]).read_text(encoding="utf-8")
            options = [word for word in stage.words if word.startswith("--") and word != "--peers"]
            assert all(f'"{option}"' in text for option in options)


def test_what_fails_or_hangs_leaves_the_rest(gpu: Any, tmp_path: Path) -> None:
    chosen = [
        gpu.Stage("good", "good | one", ["-c", "print('3 passed')"], 20, r"passed"),
        gpu.Stage("bad", "bad", ["-c", "raise SystemExit('broken')"], 20),
        gpu.Stage("hung", "hung", ["-c", "import time; print('begun', flush=True); time.sleep(60)"], 1),
        gpu.Stage("second", "second", ["-c", "1"], 20, after="bad"),
        gpu.Stage("table", "table", ["-c", "print('a  b'); print('1  2')"], 20, tables=True),
    ]
    start = time.monotonic()
    gpu.run_all(chosen, tmp_path, ["A card"], time.monotonic() + 100)
    assert time.monotonic() - start < 50
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["held"] for row in rows] == [True, False, False, None, True]
    assert [row["said"] for row in rows][:4] == [
        "3 passed",
        "exit code 1: broken",
        "stopped at its limit: begun",
        "not run: it needs the stage bad",
    ]
    text = (tmp_path / "gpu.md").read_text()
    assert "A card." in text
    assert "```\na  b\n1  2\n```" in text


def test_no_stage_begins_without_time(gpu: Any, tmp_path: Path) -> None:
    (result,) = gpu.run_all([gpu.Stage("late", "late", ["-c", "1"], 20)], tmp_path, [], time.monotonic() + 1)
    assert (result.held, result.said) == (None, "not run: no time is left")
