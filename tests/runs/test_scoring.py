"""What a scoring says of settings that are not the run's."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.runs.folder import RunFolder
from distill.runs.scoring import overrides

RECIPE: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"precision": None, "devices": 1},
    "model": {"class_path": "distill.SegmentationModule", "init_args": {"soft_targets": None, "window": 512}},
    "data": {
        "class_path": "distill.data.SemanticFolder",
        "init_args": {"root": "here", "zoom": 1.0, "augmentation": None, "batch_size": 4, "scale_jitter": [0.5, 2.0]},
    },
    "run": {"dir": "runs/a"},
}


@pytest.mark.parametrize(
    ("place", "key", "value", "said"),
    [
        (("data", "init_args"), "zoom", 2.0, {"data.init_args.zoom": 2.0}),
        (("data", "init_args"), "scale_jitter", [1.0, 1.0], {"data.init_args.scale_jitter": [1.0, 1.0]}),
        (("model", "init_args"), "window", None, {"model.init_args.window": None}),
        (("trainer",), "precision", "bf16-mixed", {"trainer.precision": "bf16-mixed"}),
        (("data", "init_args"), "augmentation", {"speckle": 0.5}, {"data.init_args.augmentation.speckle": 0.5}),
        # Of no consequence for scores, or said elsewhere.
        (("trainer",), "devices", 2, {}),
        (("data", "init_args"), "batch_size", 1, {}),
        (("data", "init_args"), "root", "/there", {}),
        (("model", "init_args"), "soft_targets", {"weight": 1.0}, {}),
        (("run",), "dir", "runs/b", {}),
        (("data", "init_args"), "key_of_a_later_version", 1, {}),
    ],
)
def test_settings_that_scores_depend_on(
    tmp_path: Path, place: tuple[str, ...], key: str, value: Any, said: dict[str, Any]
) -> None:
    folder = RunFolder(tmp_path)
    now = copy.deepcopy(RECIPE)
    assert overrides(folder, yaml.safe_dump(now), ()) == {}, "there is no run"
    folder.recipe.write_text(yaml.safe_dump(RECIPE))
    assert overrides(folder, yaml.safe_dump(now), ()) == {}
    group = now
    for name in place:
        group = group[name]
    group[key] = value
    assert overrides(folder, yaml.safe_dump(now), ("soft_targets",)) == said
