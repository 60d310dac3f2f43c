"""Where the weights of a teacher come from; needs no PyTorch."""

from collections.abc import Mapping
from typing import Any

RANDOM = "random"


def weights_of_teacher(teacher: Mapping[str, Any]) -> str:
    """Where the weights of a teacher come from: its file, "random", or "published" and the name of the model.

    Args:
        teacher: The component in the recipe, `class_path` and `init_args`.
    """
    own = teacher.get("init_args") or {}
    if own.get("checkpoint"):
        return str(own["checkpoint"])
    if not own.get("pretrained", True):
        return RANDOM
    # A teacher of the user's own need not have a name.
    return f"published, {own['name']}" if own.get("name") else "as its class loads them"
