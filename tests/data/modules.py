"""A data module of synthetic scenes."""

from pathlib import Path
from typing import Any

from distill.data import CocoInstances


def instances(root: Path, val: str = "val", **arguments: Any) -> CocoInstances:
    """Of the scenes in `root`: "train" to train on, and the part `val`."""
    paths: dict[str, Any] = {}
    for split, part in (("train", "train"), ("val", val)):
        paths[f"{split}_images"] = str(root / part / "images")
        paths[f"{split}_annotations"] = str(root / part / "annotations.json")
    return CocoInstances(**(paths | {"image_size": 64, "batch_size": 2, "num_workers": 0} | arguments))
