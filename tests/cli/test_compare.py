"""`distill compare` and `distill.compare`: what they print, write and refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import distill
from distill.cli import main
from distill.errors import UserError
from tests.run_folders import MACHINE, write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with two runs, and with something else."""
    place = tmp_path / "runs"
    for init, ap in (("scratch", 0.3), ("distilled", 0.34)):
        write_run(place / init, init=init, scores={"test/mask/AP": ap, "test/box/AP": ap})
    (place / "data").mkdir()
    (place / "notes.txt").touch()
    return place


def test_prints_tables_sentence_and_what_is_passed_over(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, sorted(runs.iterdir()))]) == 0
    said = capsys.readouterr().out
    assert f"Passed over, since they are no run folders: {runs}/data, {runs}/notes.txt\n" in said
    assert "Instance segmentation on NWPU, 12 test images" in said
    assert "RS4D tiny · distilled" in said
    assert "+4.0" in said
    assert "4.0 points more than the same student from scratch (one seed)." in said
    assert "Wrote" not in said


def test_writes_files_that_name_their_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "com pare"
    assert main(["compare", str(runs / "scratch"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"Wrote {out}/: compare.html, compare.json, compare.csv, compare.md\n")
    content = json.loads((out / "compare.json").read_text())
    assert content["command"] == f"distill compare {runs}/scratch --out '{out}'"
    assert (content["format"], content["passed_over"], content["measured"]) == (1, [], None)


def test_notes_and_reasons_are_printed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(runs / "small", student="RS4D small", init="distilled", machine={**MACHINE, "threads": 1})
    assert main(["compare", str(runs / "scratch"), str(runs / "distilled"), str(other)]) == 0
    said = capsys.readouterr().out
    assert "CPU latency was taken on different machines (RS4D small" in said
    assert f"missing: RS4D small · distilled: not scored yet; run `distill test {other}`" in said


def test_python_gives_the_same(runs: Path, tmp_path: Path) -> None:
    found = distill.compare([runs / "scratch", runs / "distilled", runs / "data"], out=tmp_path / "out")
    content = found.as_json()
    assert content["command"] == f"distill compare {runs}/scratch {runs}/distilled {runs}/data --out {tmp_path}/out"
    assert content["passed_over"] == [str(runs / "data")]
    assert json.loads((tmp_path / "out/compare.json").read_text()) == content
    assert len(distill.compare(runs / "scratch").as_json()["sections"][0]["rows"]) == 1


def test_a_folder_of_several_seeds_stands_for_all(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "several" / f"seed{seed}", seed=seed, scores={"test/mask/AP": 0.3})
    (row,) = distill.compare(tmp_path / "several").as_json()["sections"][0]["rows"]
    assert row["seeds"] == [0, 1]


def test_the_folder_that_one_is_in(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "scratch")
    for given in (".", "../scratch/"):
        (row,) = distill.compare([given, runs / "scratch"]).as_json()["sections"][0]["rows"]
        assert (row["seeds"], row["commands"][0].rpartition("/")[2]) == ([0], "again_scratch")


def test_bad_input_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = write_run(runs / "broken", scores={"test/mask/AP": 0.3})
    broken.scores("test").write_text("{")
    foreign = runs / "foreign"
    foreign.mkdir()
    (foreign / "recipe.yaml").write_text("eggs: 2\n")
    empty = runs / "empty"
    empty.mkdir()
    (empty / "recipe.yaml").write_text("model: 3\ndata:\nseed_everything: 0\n")
    (runs / "taken").touch()
    listed = write_run(runs / "listed", scores={"test/mask/AP": 0.3})
    listed.facts("test").write_text("[1]")
    bytes_only = write_run(runs / "bytes")
    bytes_only.metrics.write_bytes(b"\xff\xfe")
    for words, message in (
        ([str(runs / "nowhere")], "there is no"),
        ([str(runs / "data")], "no run folder is given"),
        ([str(broken)], "is no valid JSON"),
        ([str(listed)], "holds no mapping"),
        ([str(bytes_only)], "is no valid CSV"),
        ([str(foreign)], "has no model with a class_path, data with a class_path, seed_everything; give folders"),
        ([str(empty)], "has no model with a class_path, data with a class_path; give folders"),
        ([str(runs / "scratch"), "--out", str(runs / "taken")], "cannot be written"),
    ):
        assert main(["compare", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("distill: error: ")
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(UserError, match="stage is 'fit'; give validate or test"):
        distill.compare(runs / "scratch", stage="fit")


def test_heavy_libraries_are_not_imported(runs: Path, tmp_path: Path) -> None:
    """Seconds, for a table of files."""
    heavy = ["torch", "matplotlib", "pytorch_lightning", "scipy.stats"]
    several = [
        write_run(tmp_path / f"more{seed}", init="distilled", seed=seed, scores={"test/mask/AP": 0.4})
        for seed in (1, 2)
    ]
    scratch = [write_run(tmp_path / f"base{seed}", seed=seed, scores={"test/mask/AP": 0.3}) for seed in (1, 2)]
    words = ["compare", *map(str, [*several, *scratch]), "--out", str(tmp_path / "out")]
    code = f"import sys; from distill.cli import main; main({words}); print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(2 seeds, 95 % interval 10.0 to 10.0)" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
