"""`make try-wheel` draws the scenes that its trainings name; the rest of it takes an environment of its own."""

import re
from pathlib import Path

import pytest

from distill.recipe.command_line import split
from distill.runs.missing_paths import require_paths

SCRIPT = (Path(__file__).parent / "try_wheel.sh").read_text(encoding="utf-8")


def test_its_trainings_find_their_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (drawing,) = re.findall(r"-c '\n(from distill\.synthetic.*?)'", SCRIPT, re.DOTALL)
    exec(compile(drawing, "try_wheel.sh", "exec"), {})
    recipes = re.findall(r"/distill\" fit (\S+)", SCRIPT)
    assert len(recipes) == 2
    for recipe in recipes:
        require_paths(*split([recipe]), built=("data",))  # the second one starts from the first
