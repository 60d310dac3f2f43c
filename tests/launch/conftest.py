"""A small trained run for all tests of the group "export"."""

from pathlib import Path

import pytest
import yaml

from tests.small_recipes import fine_tuning


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A Mask R-CNN after two steps, which finds anything everywhere."""
    from distill.cli import main

    folder = tmp_path_factory.mktemp("export")
    recipe = fine_tuning(scenes, folder / "run")
    recipe["model"]["init_args"]["head"]["init_args"] |= {"score_threshold": 0.0, "max_detections": 20}
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "logger": False}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(folder / "finetune.yaml")]) == 0
    return folder / "run"
