"""Everything that docs/api.md shows runs as it stands."""

import multiprocessing
import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^```python(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The session, then the script, whose workers are started by spawn."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {}
    text = PAGE.read_text(encoding="utf-8")
    with mpl.rc_context({"backend": "agg"}):
        for block in BLOCK.finditer(text):
            if not block[1]:
                above = "\n" * text.count("\n", 0, block.start(2))  # so that tracebacks name lines of the page
                exec(compile(above + block[2], PAGE, "exec"), session)
    printed = capsys.readouterr().out
    assert "['aircraft', 'ship', 'storage tank', 'building', 'court', 'diamond']" in printed
    assert "[(192, 8, 8), (192, 8, 8), (192, 8, 8)]" in printed
    assert "run 'runs/no_such_run' does not exist; pass the folder that `distill fit` wrote" in printed
    (script,) = [block[2] for block in BLOCK.finditer(text) if block[1] == "script"]
    (tmp_path / "script.py").write_text(script)
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")  # which the workers import again
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert len([line for line in capsys.readouterr().out.splitlines() if ".png " in line]) == 4
