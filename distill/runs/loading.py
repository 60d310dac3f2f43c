"""Python code that loads the student of a run, for cards and the command line."""

from distill.contracts import StudentBase
from distill.runs.folder import RunFolder


def loading_lines(folder: RunFolder, student: StudentBase) -> str:
    """Three lines of Python that load the run's student.

    Args:
        folder: The run folder.
        student: What was exported there.
    """
    if not student.is_project_student:
        return (
            "from distill.weights import read_state_dict\n"
            "student = ...  # your own class, built as in recipe.yaml\n"
            f'student.load_state_dict(read_state_dict("{folder.student}"))'
        )
    return (
        "from distill import load_student\n"
        f'student = load_student("{folder.student}")\n'
        "maps = student(images)  # images: (B, 3, H, W), normalised with student.mean and student.std"
    )
