"""Where the initial weights of a student came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.recipe.find import RUN_STUDENT
from distill.weights import read_metadata


def initial_weights(student: Mapping[str, Any]) -> dict[str, str]:
    """The facts `init`, `init_teacher` and `init_teacher_weights`.

    Args:
        student: The component in the recipe, `class_path` and `init_args`.

    Returns:
        `init`: "distilled" where the student's file names a teacher, "pretrained" for any other file and for published
        weights, else "scratch". `init_teacher`: that teacher. `init_teacher_weights`: where its weights came from, see
        `distill.runs.teacher_weights`; files of earlier versions do not say it. A file that has been deleted since,
        which a resumed run does not need, is judged by its name.
    """
    arguments = student.get("init_args") or {}
    if not arguments.get("checkpoint"):
        return {"init": "pretrained" if arguments.get("pretrained") else "scratch"}
    path = Path(arguments["checkpoint"])
    if not path.is_file():
        return {"init": "distilled" if path.name == RUN_STUDENT else "pretrained"}
    metadata = read_metadata(path)
    if not metadata.get("teacher"):
        return {"init": "pretrained"}
    told = {f"init_{key}": metadata[key] for key in ("teacher", "teacher_weights") if key in metadata}
    return {"init": "distilled", **told}
