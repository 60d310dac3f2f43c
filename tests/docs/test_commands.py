"""Commands and Python of README.md and docs/: run where that is cheap, checked as far as possible elsewhere.

`NOT_RUN` says of the others why they are not run. What they name (recipes, keys, options, scripts, imports) is checked.
"""

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from distill.cli import VERBS, main
from distill.cli.data import parser as data_parser
from distill.cli.export import parser as export_parser
from distill.cli.predict import parser as predict_parser
from distill.cli.pull import parser as pull_parser
from distill.cli.push import parser as push_parser
from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.weights import write_weights
from students import RS4D
from tests.docs.blocks import ROOT, Block, Command, blocks, commands
from tests.run_folders import write_run

NOT_RUN = {
    "make": "installs, or runs what other tests run",
    "pip": "installs",
    "git": "needs a network",
    "python": "a benchmark of minutes",
    "distill fit": "needs images, weights and hours; tests/recipes steps every recipe",
    "distill validate": "needs a trained run",
    "distill test": "needs a trained run",
    "distill cache": "needs images and the weights of a teacher; tests/launch/test_cache.py has small ones",
    "distill sweep": "as `distill fit`; its script for SLURM is written, before which all recipes are checked",
    "distill predict": "needs a trained run; tests/launch/test_predict.py has one",
    "distill export": "needs a trained run; tests/launch/test_export.py has one",
    "distill bench": "needs a trained run; tests/launch/test_bench.py times one",
    "distill push": "needs a trained run; tests/launch/test_share.py has one",
    "distill pull": "needs a shared model, or a network; tests/launch/test_share.py has both",
    "distill data": "needs a data set; tests/cli/test_data.py runs each action on a small one",
    "distill demo": "takes minutes; `make study` runs it",
    "distill mmdet-config": "imports MMDetection; tests/heads/mmdet runs it",
    "distill dashboard": "needs trained runs; tests/report/dashboards/test_dashboard.py has some",
    "distill serve": "needs a trained run, and does not end; tests/serve has known ones",
    "distill completion": "tests/cli/test_completion.py evaluates the script in bash",
    "distill seeds": "needs the runs of several seeds; tests/launch/test_seeds.py has them",
}
# Python blocks that are executed, by a text that only they hold, and why the others are not.
PYTHON_NOT_RUN = {
    "COCOeval(": "needs the predictions of a run; tests/tasks/test_instances.py compares these very digits",
    "split_released_efficientvit(": "needs released weights",
    "SegHead(": "needs released weights",
    "selective_scan_2d(": "`u` stands for sequences and for images; tests/students/scan runs both functions",
    "distill.predict(": "needs a trained run; tests/launch/test_predict.py has one",
    "mosaic.save(": "needs the scenes of the demo",
    "distill.export(": "needs a trained run; tests/launch/test_export.py has one",
    "open_session(": "needs an exported file; tests/exported opens small ones",
    "open_model(": "needs an exported file; tests/launch/test_export.py opens those of a run",
    "distill.push(": "needs a trained run; tests/launch/test_share.py has one",
    "probe.score(": "needs NWPU; tests/tasks/probes scores these functions on scenes",
    "distill.sweep(": "as `distill fit`; tests/launch/sweep/test_sweep.py calls it",
    "torch.load(": "needs a run that diverged; tests/tasks/test_instances_training.py reads the file of one",
    "torch.export.export(": "takes half a minute; tests/students export RS4D",
}
# Pages whose Python other tests run whole.
PYTHON_RUN_ELSEWHERE = {"docs/api.md": "tests/docs/test_api.py", "docs/extending.md": "tests/docs/test_extending.py"}
# What stands for the names that a reader replaces.
PLACEHOLDERS = {"RECIPE": "rs4d_small", "YOUR_DATA.yaml": "data/nwpu", "YOUR_SIZE.yaml": "size/cpu"}

SHELL = [(block, command) for block in blocks() for command in commands(block)]
PYTHON = [
    block for block in blocks() if block.language == "python" and block.place.split(":")[0] not in PYTHON_RUN_ELSEWHERE
]


def is_run(command: Command) -> bool:
    """Whether the test runs a command and does not only check it."""
    return not {command.words[0], " ".join(command.words[:2])} & NOT_RUN.keys()


def recipes(block: Block) -> list[Block]:
    """The files that the page of a block shows before it."""
    page = block.place.partition(":")[0]
    return [one for one in blocks() if one.file and one.language == "yaml" and one.place.partition(":")[0] == page]


def write_student(path: Path) -> None:
    """A small student, as a run leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(RS4D("tiny"), path, {"class": "students.RS4D", "init_args": {"variant": "tiny"}})


def write_runs(folder: Path) -> None:
    """A scratch baseline and a distilled student, scored."""
    for init, quality in {"scratch": 0.3, "distilled": 0.35}.items():
        scores = {"test/mask/AP": quality, "test/box/AP": quality, "val/mask/AP": quality, "val/box/AP": quality}
        write_run(folder / init, init=init, scores=scores)


def expanded(words: Sequence[str]) -> list[str]:
    """Words as a shell expands them; where runs are to be compared, there are some."""
    found: list[str] = []
    for word in words:
        if not word.endswith("/*"):
            found.append(word)
            continue
        place = Path(word).parent
        if not place.exists():
            write_runs(place)
        found += map(str, sorted(place.iterdir()))
    return found


def check_recipe_verb(stage: str, words: list[str], fitted: dict[str, list[str]]) -> None:
    """The recipes exist, and their keys and overrides are right; of a run folder, those that it was fitted from.

    Args:
        stage: fit, validate or test.
        words: What follows it.
        fitted: What the runs of the same block were fitted from, by folder; a fit adds its own.
    """
    words = [PLACEHOLDERS.get(word, word) for word in words if word not in ("...", "--help", "--help-all")]
    for word in words:
        if word.endswith("student.safetensors"):
            write_student(Path(word))
    recipe, overrides = split([*fitted.get(words[0], words[:1]), *words[1:]])
    assert recipe is not None
    check(stage, recipe, overrides)
    if stage == "fit":
        named = overrides[overrides.index("--run.dir") + 1] if "--run.dir" in overrides else f"runs/{recipe.path.stem}"
        fitted[named] = list(recipe.given)


def check_sweep(words: list[str]) -> None:
    """Options, keys and values are right: all recipes are checked, those of a search at the ends of its ranges."""
    if "--search" in words:
        place = words.index("--search")
        words = [re.sub(r"=(?:log:)?(\S+)\.\.", r"=\1,", word) for word in (*words[:place], *words[place + 2 :])]
    assert main(["sweep", *words, *([] if "--slurm" in words else ["--slurm"])]) == 0


def check_not_run(command: Command, fitted: dict[str, list[str]]) -> None:
    """What a command names is there."""
    program, *words = command.words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words if "=" not in target)
    elif program == "python":
        assert words[0].startswith("-") or (ROOT / words[0]).is_file()
    elif program == "distill" and words[0] in ("fit", "validate", "test"):
        check_recipe_verb(words[0], words[1:], fitted)
    elif program == "distill" and words[0] == "cache":
        check_recipe_verb("fit", [word for word in words[1:] if word != "--verify"], fitted)
    elif program == "distill" and words[0] == "sweep":
        check_sweep(words[1:])
    elif program == "distill" and words[0] == "data":
        data_parser().parse_args(words[1:])
    elif program == "distill" and words[0] == "predict":
        predict_parser().parse_args([word.replace("$SLURM_ARRAY_TASK_ID", "1") for word in words[1:]])
    elif program == "distill" and words[0] == "export":
        export_parser().parse_args(words[1:])
    elif program == "distill" and words[0] == "push":
        push_parser().parse_args(words[1:])
    elif program == "distill" and words[0] == "pull":
        pull_parser().parse_args(words[1:])
    elif program == "distill" and words[0] == "mmdet-config":
        place = words.index("--output")
        check_recipe_verb("fit", [*words[1:place], *words[place + 2 :]], fitted)
    elif program == "distill":
        assert words[0] in VERBS


@pytest.mark.parametrize("block", dict.fromkeys(block for block, _ in SHELL), ids=lambda block: block.place)
def test_commands(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in ("_SECONDS", "_MOST"):
        monkeypatch.setattr(f"distill.evaluation.turns.{setting}", 0.01)
    monkeypatch.setattr("distill.launch.sweep.plan.ParsedRecipe", lambda *_: None)  # takes seconds; `check` is before
    fitted: dict[str, list[str]] = {}
    for recipe in recipes(block):
        Path(recipe.file).write_text(recipe.text, encoding="utf-8")
    for command in commands(block):
        if is_run(command):
            assert main(expanded(command.words[1:])) == 0, f"{command.place}: {capsys.readouterr().err}"
        else:
            check_not_run(command, fitted)


def batch(folder: Path) -> dict[str, Any]:
    """What the block of docs/students.md finds: a distilled student and images."""
    write_student(folder / "runs/rs4d_small/student.safetensors")
    return {"images": torch.zeros(1, 3, 64, 64)}


def compared(folder: Path) -> dict[str, Any]:
    """What the block of docs/compare.md finds: two runs."""
    write_runs(folder / "runs")
    return {}


RUN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "maps = student(images)": batch,
    "class Fields(": lambda folder: {},
    "distill.compare(": compared,
}


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                resolve_name(f"{node.module}:{alias.name}")
    monkeypatch.chdir(tmp_path)
    setups = [setup for text, setup in RUN.items() if text in block.text]
    if setups:
        exec(compile(block.text, block.place, "exec"), setups[0](tmp_path))
    else:
        assert any(text in block.text for text in PYTHON_NOT_RUN), f"{block.place}: run it, or say why not"


def test_the_tables_name_nothing_that_is_gone() -> None:
    starts = {start for _, command in SHELL for start in (command.words[0], " ".join(command.words[:2]))}
    optional = {"pip", "git", "distill validate", "distill demo", "distill seeds"}
    assert NOT_RUN.keys() - starts <= optional
    assert all((ROOT / test).is_file() for test in PYTHON_RUN_ELSEWHERE.values())
    for text in (*PYTHON_NOT_RUN, *RUN):
        assert any(text in block.text for block in PYTHON), text
