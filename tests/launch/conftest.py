"""A small trained run for all tests of the group "export"."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.small_recipes import fine_tuning


@contextmanager
def _two_layers() -> Iterator[None]:
    """RS4D of two layers, of which an exporter has as much to translate as of six, in a third of the time."""
    from students import rs4d

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rs4d._VARIANTS, "tiny", replace(rs4d._VARIANTS["tiny"], layers=2))
        yield


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """Needed wherever the run of `exported_run` is loaded: its recipe names the variant."""
    with _two_layers():
        yield


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A light Mask R-CNN after two steps, which finds anything everywhere.

    A cell of its coarsest map has 64 px, and a view one stride more: the least that a file of it takes.
    """
    from distill.cli import main

    folder = tmp_path_factory.mktemp("export")
    recipe = fine_tuning(scenes, folder / "run")
    recipe["model"]["init_args"]["head"]["init_args"] |= {"score_threshold": 0.0, "max_detections": 20}
    recipe["model"]["init_args"]["student"]["init_args"]["out_indices"] = [0, 1]
    recipe["data"]["init_args"]["image_size"] = 72
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "logger": False}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(recipe))
    with _two_layers():
        narrow = ["--model.head.neck_channels=16", "--model.head.fc_channels=32", "--model.head.proposals=50"]
        assert main(["fit", str(folder / "finetune.yaml"), "head/light", *narrow]) == 0
    return folder / "run"
