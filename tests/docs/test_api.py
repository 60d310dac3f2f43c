"""Everything that docs/api.md shows runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^```python(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The session in this process, then the script in one that starts its workers by spawn."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {}
    text = PAGE.read_text(encoding="utf-8")
    with mpl.rc_context({"backend": "agg"}):
        for block in BLOCK.finditer(text):
            if not block[1]:
                above = "\n" * text.count("\n", 0, block.start(2))  # so that tracebacks name lines of the page
                exec(compile(above + block[2], PAGE, "exec"), session)
    printed = capsys.readouterr().out
    assert "['ship', 'building', 'vehicle']" in printed
    assert "[(192, 8, 8), (192, 8, 8), (192, 8, 8)]" in printed
    assert "run 'runs/no_such_run' does not exist; pass the folder that `distill fit` wrote" in printed
    (script,) = [block[2] for block in BLOCK.finditer(text) if block[1] == "script"]
    spawning = "import multiprocessing\n\nmultiprocessing.set_start_method('spawn', force=True)\n"
    (tmp_path / "script.py").write_text(spawning + script)
    environment = os.environ | {"PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("test_") or ".png " in line]) == 4
