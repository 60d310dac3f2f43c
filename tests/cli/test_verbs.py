import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from distill.cli import VERBS, doctor, main, predict
from distill.cli.recipes import MAIN
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.find import shipped, summary
from distill.weights import read_state_dict

ACTIONS = ("prepare", "tile", "verify", "preview")


def code_of(*words: str) -> object:
    """The exit code of a command; some are argparse's."""
    try:
        return main(words)
    except SystemExit as ending:
        return ending.code


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_listed_and_says_how_it_is_used(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert re.search(rf"^  {verb} +\w", capsys.readouterr().out, re.MULTILINE)
    assert code_of(verb, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: distill {verb}")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_bad_input(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2 and one line that begins with the program's name; what is missing is named, too."""
    words = {"demo": ["--seed", "many"], "doctor": ["--yaml"], "data": ["verify", str(tmp_path / "none")]}
    for given in (words.get(verb, [str(tmp_path / "none")]), ["--surely-not"]):
        assert main([verb, *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("distill: error: ")


@pytest.mark.parametrize(
    "words", [[], *([verb] for verb in VERBS), *(["data", action] for action in ACTIONS)], ids=" ".join
)
def test_help_fits_a_screen(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, most in ((80, 50), (100, 40)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert code_of(*words, "--help") == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= most
        assert max(map(len, lines)) <= columns


def test_help_all_shows_the_options_that_help_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("predict", "--help") == 0
    short = capsys.readouterr().out
    assert code_of("predict", "--help-all") == 0
    whole = capsys.readouterr().out
    assert short.splitlines()[-1] == "All options: distill predict --help-all"
    assert "--shard" not in short
    assert "--shard I/N" in whole
    assert predict.parser().parse_args(["run", "a.tif", "--out", "x", "--shard", "1/2"]).shard == (1, 2)
    assert code_of("seeds", "--help-all") == 0  # also where there is no more to show
    assert "--json" in capsys.readouterr().out


def test_the_whole_recipe_is_printed(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["fit", str(distill_recipe), "--trainer.max_steps=3", "--print_config"])
    assert not ending.value.code
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_steps"] == 3


def test_doctor_says_which_kernels_are_active_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    by_subject: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_subject.setdefault(row["subject"], []).append(row)
    assert any("active" in row["state"] and "not" not in row["state"] for row in by_subject["selective scan"])
    if find_spec("mmdet") is not None:
        assert "torchvision" in by_subject["mmcv"][0]["state"]
    assert "torch" in by_subject
    assert {"ray", "serve"} <= by_subject.keys()
    assert not [row for row in rows if row["state"].startswith("problem")]


def test_an_extra_that_is_missing_is_no_problem_and_one_that_is_torn_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mmdet")

    def row_of(subject: str) -> dict[str, str]:
        assert main(["doctor", "--json"]) == 0
        return {row["subject"]: row for row in json.loads(capsys.readouterr().out)}.get(subject, {})

    monkeypatch.setitem(sys.modules, "mmengine", None)
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    assert row_of("mmdet")["state"] == "in part (no mmengine)"
    assert row_of("mmcv")["state"].startswith("problem")
    for name in ("mmdet", "mmcv"):
        monkeypatch.setitem(sys.modules, name, None)
    assert row_of("mmdet") == {
        "subject": "mmdet",
        "state": "not installed",
        "note": "for heads.MaskRCNN, CascadeMaskRCNN and RSPrompter; pip install 'distill-rs[mmdet]'",
    }
    assert not row_of("mmcv")


def test_opencv_that_does_not_load_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_open(words: list[str]) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")

    monkeypatch.setattr(doctor, "run", cannot_open)
    assert main(["doctor"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("distill: error: OpenCV cannot be loaded (libGL.so.1: cannot open shared object file): pip ")
    assert line.count("\n") == 1


def test_recipes_list_show_copy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["recipes", "list"]) == 0
    out = capsys.readouterr().out
    for name in (*shipped(), *COMBINATIONS):
        assert name in out
    assert main(["recipes", "list", "landcover/res"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("landcover/")} == {
        *("landcover/resnet18_upernet", "landcover/resnet18_upernet_cpu"),
        *("landcover/resnet50", "landcover/resnet50_cpu"),
    }
    assert not any(line.startswith("rs4d_small") for line in lines)
    assert main(["recipes", "list", "landscape"]) == 2
    assert "no recipe has a name that begins with 'landscape'" in capsys.readouterr().err
    assert main(["recipes", "show", "rs4d_small"]) == 0
    assert capsys.readouterr().out == shipped()["rs4d_small"].read_text()
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "finetune/nwpu_mask_rcnn"]) == 0
    assert (tmp_path / "nwpu_mask_rcnn.yaml").is_file()
    assert main(["recipes", "copy", "finetune/nwpu_mask_rcnn"]) == 2
    assert main(["recipes", "list", "--foo"]) == 2
    assert "`distill recipes` takes no --foo" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 120])
def test_recipes_are_wrapped(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe, too; the name of each stands in one piece, and no word is cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["recipes", "list"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert columns - 20 < max(len(line.rstrip()) for line in out.splitlines()) <= columns
    for name in (*shipped(), *COMBINATIONS):
        assert re.search(rf"^{name} +\w", out, re.MULTILINE)
    assert summary(shipped()["demo/teacher"]) in " ".join(out.split())


def test_the_main_recipes_fit_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert [line.split()[0] for line in lines if line.split(" ")[0] in shipped()] == [*MAIN]
    assert f"These are {len(MAIN)} of {len(shipped())} recipes." in "\n".join(lines)
    assert "  distill recipes list" in lines


def test_a_pipe_gets_a_line_for_each_subject(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [("subject", "problem: missing", "what to do, " * 30 + "and no more")]
    monkeypatch.setattr(doctor, "diagnose", lambda: rows)
    assert main(["doctor"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split("  ")[0] for line in lines] == ["subject", "subject"]
    assert lines[1].endswith(rows[0][2])


def test_a_run_is_repeated_from_its_folder_into_another(distill_recipe: Path, tmp_path: Path) -> None:
    assert main(["fit", str(distill_recipe)]) == 0
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert main(["validate", str(moved)]) == 0
    assert main(["fit", str(moved / "recipe.yaml"), f"--run.dir={tmp_path / 'again'}"]) == 0
    first, second = (read_state_dict(folder / "student.safetensors") for folder in (moved, tmp_path / "again"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_validate_scores_a_finished_run(distill_recipe: Path, tmp_path: Path) -> None:
    assert main(["fit", str(distill_recipe)]) == 0
    assert main(["validate", str(tmp_path / "run")]) == 0
    scores = json.loads((tmp_path / "run" / "validate.json").read_text())
    assert scores["val/l1"] == pytest.approx(scores["val/l1_ratio"] * scores["val/trivial_l1"], rel=1e-5)
