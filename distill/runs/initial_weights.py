"""Where the initial weights of a student came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.recipe.find import RUN_STUDENT
from distill.weights import read_metadata


def initial_weights(student: Mapping[str, Any]) -> dict[str, str]:
    """The facts `init` and `init_teacher`.

    Args:
        student: The component in the recipe, `class_path` and `init_args`.

    Returns:
        `init`: "distilled" where the student's file names a teacher, "pretrained" for any other file and for published
        weights, else "scratch". `init_teacher`: that teacher. A file that has been deleted since, which a resumed run
        does not need, is judged by its name.
    """
    arguments = student.get("init_args") or {}
    if not arguments.get("checkpoint"):
        return {"init": "pretrained" if arguments.get("pretrained") else "scratch"}
    path = Path(arguments["checkpoint"])
    if not path.is_file():
        return {"init": "distilled" if path.name == RUN_STUDENT else "pretrained"}
    teacher = read_metadata(path).get("teacher")
    return {"init": "distilled", "init_teacher": teacher} if teacher else {"init": "pretrained"}
