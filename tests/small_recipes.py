"""Small recipes, for fixtures of every scope."""

from pathlib import Path
from typing import Any


def fine_tuning(scenes: Path, run: Path) -> dict[str, Any]:
    """A fine-tuning of a few steps under a small Mask R-CNN.

    Args:
        scenes: The data set of the fixture `scenes`.
        run: The run folder.
    """
    return {
        "model": {
            "class_path": "distill.FineTuningModule",
            "init_args": {
                "student": {
                    "class_path": "students.RS4D",
                    "init_args": {"variant": "tiny", "image_size": 64, "patch_size": 8},
                },
                "head": {
                    "class_path": "heads.MaskRCNN",
                    "init_args": {
                        "neck_channels": 16,
                        "fc_channels": 32,
                        "roi_samples": 16,
                        "mask_convs": 1,
                        "proposals": 50,
                    },
                },
                "optim": {"lr": 1e-3, "warmup_steps": 2},
            },
        },
        "data": {
            "class_path": "distill.data.CocoInstances",
            "init_args": {
                "train_images": str(scenes / "train" / "images"),
                "train_annotations": str(scenes / "train" / "annotations.json"),
                "val_images": str(scenes / "test" / "images"),
                "val_annotations": str(scenes / "test" / "annotations.json"),
                "image_size": 64,
                "batch_size": 2,
                "num_workers": 0,
            },
        },
        "trainer": {"max_steps": 8, "val_check_interval": 8, "accelerator": "cpu", "log_every_n_steps": 1},
        "run": {"dir": str(run), "checkpoint_every": 4},
    }
