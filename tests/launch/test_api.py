"""Fitting and scoring from Python: what is given, what comes back, and what stays of it in the process."""

import json
import logging
import math
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.errors import Stopped, UserError
from distill.launch import api
from distill.runs.folder import RunState
from distill.tasks.matching.baseline import TargetStatistics

QUICK = {"trainer.max_steps": 1, "trainer.val_check_interval": 1, "trainer.logger": False}
ROOT = Path(__file__).parents[2]


def process() -> dict[str, Any]:
    """What a run must leave as it was."""
    return {
        "argv": list(sys.argv),
        "environment": {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "PYTEST"))},
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "filters": list(warnings.filters),
        "format": warnings.formatwarning,
        "last resort": logging.lastResort,
        "levels": [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")],
    }


@pytest.fixture
def content(distill_recipe: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load(distill_recipe.read_text())
    return recipe


def test_a_mapping_is_fitted_and_scored(content: dict[str, Any], tmp_path: Path) -> None:
    before = process()
    run = api.fit(content, **QUICK, run={"dir": tmp_path / "mine"}, model={"optim": {"warmup_steps": 0}})
    assert run.path == tmp_path / "mine"
    assert run.state is RunState.FINISHED
    stored = run.read_recipe()
    assert stored["model"]["init_args"]["optim"] == {
        **stored["model"]["init_args"]["optim"],
        "lr": 2e-3,
        "warmup_steps": 0,
    }
    assert (stored["trainer"]["max_steps"], stored["data"]["init_args"]["batch_size"]) == (1, 2)
    scores = api.validate(run, **{"trainer.accelerator": "cpu"})
    assert scores == json.loads(run.scores("validate").read_text())
    assert scores["val/l1"] == pytest.approx(run.read_summary()[1]["val/l1"])
    assert api.validate(str(run)) == scores
    assert process() == before
    with pytest.raises(UserError, match="has no test split"):
        api.test(run)


def test_recipes_in_a_list_are_composed(content: dict[str, Any], distill_recipe: Path, tmp_path: Path) -> None:
    where = {"run": {"dir": tmp_path / "mine"}}
    parsed = api.python_recipe("fit", [distill_recipe, {"data.batch_size": 3}, where], {"data.batch_size": 4})
    assert parsed.config.data.init_args.batch_size == 4
    assert parsed.folder.path == tmp_path / "mine"
    parts = [{key: content[key]} for key in ("model", "data")]
    parsed = api.python_recipe("fit", [*parts, where], {})
    assert parsed.config.model.init_args.optim.lr == 2e-3
    assert parsed.again("fit", "--run.seeds=null").folder == parsed.folder
    composed = api.python_recipe("fit", ["finetune/mask_rcnn", "data/nwpu"], {"data": {"image_size": 64}})
    assert composed.folder.path == Path("runs/mask_rcnn_nwpu")
    with pytest.raises(UserError, match="MAPPING MAPPING has no data"):
        api.python_recipe("fit", [parts[0], where], {})


def test_instances_are_tested(finetune_recipe: Path) -> None:
    run = api.fit(finetune_recipe, **QUICK, **{"model.head": "heads.DenseMasks"})
    scores = api.test(run)
    assert {"test/box/AP", "test/mask/AP50"} <= scores.keys()
    stored = json.loads(run.scores("test").read_text())
    assert {name: None if math.isnan(value) else value for name, value in scores.items()} == stored


def test_bad_input_is_one_line(content: dict[str, Any], distill_recipe: Path) -> None:
    nameless = content | {"run": {}}
    for recipe, overrides, message in (
        (nameless, {}, "set run.dir"),
        (content, {"trainer.max_stepz": 1}, "did you mean max_steps"),
        (content, {"trainer": {"max_steps": "many"}}, "expected a whole number"),
        (str(distill_recipe), {"data.root": "/nowhere"}, "/nowhere"),
        ("rs4d_smal", {}, "did you mean rs4d_small"),
    ):
        with pytest.raises(UserError, match=message):
            api.fit(recipe, **overrides)
    with pytest.raises(UserError, match="there is no checkpoint"):
        api.validate(distill_recipe)


def test_a_user_who_stops_a_run_keeps_the_interpreter(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = process()
    cut = {"class_path": "tests.launch.resuming.Interrupt", "init_args": {"step": 0, "number": int(signal.SIGINT)}}
    with pytest.raises(Stopped, match="stopped at step 1; go on with"):
        api.fit(content, **{"trainer.callbacks": [cut], "trainer.limit_val_batches": 0})
    assert process() == before
    monkeypatch.setattr(TargetStatistics, "of", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped, match="stopped before the first step; nothing was written"):
        api.fit(content, **{"run.dir": tmp_path / "other"})
    assert process() == before


def test_overrides_are_words_of_the_command_line() -> None:
    given = {
        "trainer": {"max_steps": 3, "logger": False},
        "data.root": Path("a b"),
        "run.seeds": [0, 1],
        "ckpt_path": "last",
    }
    words = [
        "--trainer.max_steps=3",
        "--trainer.logger=false",
        "--data.root=a b",
        "--run.seeds=[0, 1]",
        "--ckpt_path=last",
    ]
    assert api.as_words(given) == words
    assert api.as_words({"trainer.max_steps": np.int64(3), "data.scale": (np.float32(0.5), 1)}) == [
        "--trainer.max_steps=3",
        "--data.scale=[0.5, 1]",
    ]
    assert api.as_words({"model": {"optim": {"lr": np.float32(0.5)}}}) == ['--config={"model.optim": {"lr": 0.5}}']
    assert api.plain_recipes({"trainer": {"max_steps": np.int64(3)}}) == [{"trainer": {"max_steps": 3}}]
    assert api.as_words({"model.student.checkpoint": None}) == ["--model.student.checkpoint=null"]
    assert api.as_words({"model": {"optim": {"lr": 1}}}) == ['--config={"model.optim": {"lr": 1}}']
