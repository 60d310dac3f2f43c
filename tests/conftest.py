"""What the tests share: quiet dashboards, one thread a worker, small scenes, a small teacher, small recipes.

Nothing heavy is imported at the top: the process that starts the workers of pytest-xdist reads this file, too.
"""

import os
import signal

# Before anything imports W&B or the Hugging Face hub.
os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.small_recipes import fine_tuning

VIT = {"name": "vit_tiny_patch16_224", "options": {"img_size": 64, "patch_size": 8, "depth": 2}}


def pytest_collection() -> None:
    """Where tests are collected, which is not in the process that only starts the workers and would import for nothing.

    As on the command line, before MMDetection: after its imports, typing's cache turns the trainer's `int | float`
    around, and --trainer.limit_val_batches 1 is read as 1.0, which is all of them.
    """
    import pytorch_lightning  # noqa: F401


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_worker() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive() -> None:
    """As in a terminal. A shell starts what it runs in the background with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _students_are_timed_briefly() -> Iterator[None]:
    """Every fit times its student, for up to a second; what it finds is tested in tests/evaluation/test_cost.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.evaluation.cost._MIN_SECONDS", 0.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _figures_have_few_dots() -> Iterator[None]:
    """Every scored run draws some, whole but small; tests/report/test_predictions.py saves one at full size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.report.figures._DOTS", 20)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Files are as safe against a killed process without it; against a power failure, no test can tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.files._sync", lambda path: None)
        yield


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small labelled data set: train/ and test/ of 64 px scenes."""
    from distill.synthetic.scenes import write_scenes

    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train", 12, 64, seed=0)
    write_scenes(root, "test", 4, 64, seed=0)
    return root


@pytest.fixture(scope="session")
def vit_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT as this project saves one."""
    import torch

    from distill.weights import write_weights
    from students import TimmStudent

    torch.manual_seed(0)
    student = TimmStudent(VIT["name"], out_indices=[0, 1], options=VIT["options"])
    path = tmp_path_factory.mktemp("teacher") / "student.safetensors"
    write_weights(student, path, {"class": "students.TimmStudent", "init_args": student.init_args})
    return path


@pytest.fixture
def distill_recipe(tmp_path: Path, scenes: Path, vit_weights: Path) -> Path:
    """A distillation of a few steps; runs land in the working directory."""
    recipe = {
        "model": {
            "class_path": "distill.DistillationModule",
            "init_args": {
                "teacher": {
                    "class_path": "teachers.ViT",
                    "init_args": {"name": VIT["name"], "checkpoint": str(vit_weights)},
                },
                "student": {
                    "class_path": "students.RS4D",
                    "init_args": {"variant": "tiny", "image_size": 64, "patch_size": 8},
                },
                "target": "embedding",
                "corruption": {"noise": 0.2, "mask": 0.2},
                "loss": {"terms": {"l1": 1.0}, "standardize": "none"},
                "optim": {"lr": 2e-3, "warmup_steps": 2},
                "calibration_images": 8,
            },
        },
        "data": {
            "class_path": "distill.data.ImageFolder",
            "init_args": {
                "root": str(scenes / "train" / "images"),
                "val_root": str(scenes / "test" / "images"),
                "image_size": 64,
                "batch_size": 2,
                "num_workers": 0,
            },
        },
        "trainer": {"max_steps": 8, "val_check_interval": 4, "accelerator": "cpu", "log_every_n_steps": 1},
        "run": {"dir": str(tmp_path / "run"), "checkpoint_every": 4},
    }
    path = tmp_path / "distill.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def finetune_recipe(tmp_path: Path, scenes: Path) -> Path:
    """A fine-tuning of a few steps under a small Mask R-CNN."""
    path = tmp_path / "finetune.yaml"
    path.write_text(yaml.safe_dump(fine_tuning(scenes, tmp_path / "run")))
    return path
