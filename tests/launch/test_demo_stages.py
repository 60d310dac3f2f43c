"""Which trainings of a demo are kept: those of its recipe, of these versions, after the run that they start from."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from distill.cli import main
from distill.launch.demo_stages import is_scored, remove, states
from distill.runs.folder import RunFolder, RunState
from tests.small_recipes import fine_tuning

FRESH, INTERRUPTED, FINISHED = RunState.FRESH, RunState.INTERRUPTED, RunState.FINISHED


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[str]]:
    """A finished and scored run, and the words that it was fitted with."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = fine_tuning(scenes, folder / "run")
    recipe["model"]["init_args"]["head"] = {"class_path": "heads.DenseMasks"}
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "logger": False}
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe))
    words = [str(folder / "small.yaml"), "--seed_everything=3"]
    assert main(["fit", *words]) == 0
    assert main(["test", str(folder / "run")]) == 0
    return RunFolder(folder / "run"), words


@pytest.fixture
def run(trained: tuple[RunFolder, list[str]]) -> RunFolder:
    """The run, as it was."""
    stored, copy = trained[0].path, trained[0].path.with_name("stored")
    if not copy.exists():
        shutil.copytree(stored, copy)
    shutil.rmtree(stored)
    shutil.copytree(copy, stored)
    return trained[0]


def state(run: RunFolder, words: list[str]) -> RunState:
    return states({"one": run}, {"one": words}, {})["one"]


def test_a_run_of_the_same_recipe_is_kept(run: RunFolder, trained: tuple[RunFolder, list[str]]) -> None:
    words = trained[1]
    assert state(run, words) is FINISHED
    assert state(run, [words[0], "--seed_everything=4"]) is FRESH
    assert state(run, [*words, "--trainer.max_steps=3"]) is FRESH
    assert state(RunFolder(run.path / "none"), words) is FRESH
    run.student.unlink()  # which resuming does not write again
    assert state(run, words) is FRESH


@pytest.mark.parametrize("lost", ["summary", "card"])
def test_a_run_that_lacks_what_comes_last_goes_on(
    run: RunFolder, trained: tuple[RunFolder, list[str]], lost: str
) -> None:
    {"summary": run.summary, "card": run.card}[lost].unlink()
    assert state(run, trained[1]) is INTERRUPTED
    assert main(["fit", *trained[1], "--ckpt_path=last"]) == 0
    assert state(run, trained[1]) is FINISHED


@pytest.mark.parametrize("changed", ["versions", "git", "recipe"])
def test_a_run_of_other_versions_is_not_kept(
    run: RunFolder, trained: tuple[RunFolder, list[str]], changed: str
) -> None:
    if changed == "recipe":
        run.recipe.write_text("model: [")
    else:
        content = json.loads(run.environment.read_text())
        content[changed] = {**content["versions"], "torch": "1.0"} if changed == "versions" else "another"
        run.environment.write_text(json.dumps(content))
    assert state(run, trained[1]) is FRESH


def test_a_run_is_not_kept_without_the_one_that_it_starts_from(
    run: RunFolder, trained: tuple[RunFolder, list[str]]
) -> None:
    words = trained[1]
    both, needs = {"first": words, "second": words}, {"second": "first"}
    assert states({"first": run, "second": run}, both, needs) == {"first": FINISHED, "second": FINISHED}
    other = RunFolder(run.path / "none")
    assert states({"first": other, "second": run}, both, needs) == {"first": FRESH, "second": FRESH}


def test_scores_are_kept_that_a_plain_test_gave(run: RunFolder, trained: tuple[RunFolder, list[str]]) -> None:
    assert is_scored(run)
    assert main(["test", str(run), "--data.image_size=128"]) == 0
    assert not is_scored(run)
    run.scores("test").unlink()
    assert not is_scored(run)


def test_what_is_removed(run: RunFolder, trained: tuple[RunFolder, list[str]]) -> None:
    (run.path / "notes.txt").write_text("mine")
    remove(run)
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]
    assert state(run, trained[1]) is FRESH
