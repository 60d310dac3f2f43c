"""`distill.compare`: runs in one table, on the terminal, in files and as one page."""

import shlex
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from distill.errors import UserError
from distill.report.compare.comparison import Comparison, compare_records
from distill.report.run_record import RunRecord
from distill.runs.folder import STAGES
from distill.runs.listing import run_folders


def compare(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str] | None = None,
    measure: bool = False,
    stage: str | None = None,
    command: str | None = None,
) -> Comparison:
    """Compares runs, as `distill compare` does.

    A row is a student with its initial weights on a task, over all seeds; each task and set of images has a section of
    its own. Runs that were scored differently (other images, another checkpoint, detection limit or override) are not
    folded into a row.

    Args:
        runs: Run folders. One that holds the runs of several seeds stands for all of them; what is no run folder is
            passed over.
        out: A folder for compare.html, compare.json, compare.csv and compare.md; None to write nothing.
        measure: Whether all models are timed anew, in turns in this process, which takes PyTorch. Without it nothing
            but the files of the runs is read.
        stage: "test" or "validate": which scores are compared; by default those of the test images, and of the
            validation images for a distillation.
        command: What the page names as its origin; by default the command that does the same.

    Returns:
        The comparison: `.as_json()`, `.markdown()`, `.csv()`, `.tables()` for a terminal, `.write(folder)`.

    Raises:
        UserError: There is no run folder among `runs`, the stage is none, or `out` cannot be written.

    Examples:
        >>> comparison = distill.compare(["runs/scratch", "runs/distilled"], out="runs/compare")
        >>> comparison.as_json()["sections"][0]["rows"][1]["values"]["gain"]["mean"]
    """
    if stage is not None and stage not in STAGES:
        raise UserError(f"stage is {stage!r}; give {' or '.join(STAGES)}, or leave it out")
    given = [runs] if isinstance(runs, str | PathLike) else list(runs)
    folders, others = run_folders(given)
    records = [RunRecord.read(folder) for folder in folders]
    measured = None
    if measure:
        from distill.launch.measure import measure as times  # which takes PyTorch

        measured = times(records)
    if command is None:
        words = [fspath(path) for path in given] + (["--out", fspath(out)] if out is not None else [])
        words += ["--measure"] * measure + (["--stage", stage] if stage else [])
        command = shlex.join(["distill", "compare", *words])
    comparison = compare_records(records, command, others, measured, stage)
    if out is not None:
        comparison.write(Path(out))
    return comparison
