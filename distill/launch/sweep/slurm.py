"""A sweep as a job array of SLURM: one task for each run, started again when the queue takes its place."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.errors import Preempted
from distill.files import write_text

SCRIPT = "sweep.sbatch"
_TEXT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
# Each task is one run. SIGTERM, which SLURM sends before it takes the machine away, stores the run's state and ends it
# with exit code {again}; the task is put back into the queue, and goes on from there.
cd {here} || exit 2
srun {command} --task "$SLURM_ARRAY_TASK_ID"
code=$?
if [ "$code" -eq {again} ]; then
  exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


def write_script(folder: Path, words: Sequence[str], count: int) -> str:
    """Writes the script.

    Args:
        folder: The folder of the sweep.
        words: What was typed after `distill`, without `--slurm`.
        count: How many runs there are.

    Returns:
        The command that submits it.

    Raises:
        UserError: The folder cannot be written.
    """
    (folder / "slurm").mkdir(parents=True, exist_ok=True)  # SLURM makes no folder for its logs
    path = folder / SCRIPT
    filled = _TEXT.format(
        name=shlex.quote(folder.name),  # sbatch reads quotes as a shell does
        last=count - 1,
        log=shlex.quote(f"{folder.absolute()}/slurm/".replace("%", "%%") + "%A_%a.log"),
        here=shlex.quote(str(Path.cwd())),
        command=shlex.join([sys.executable, "-m", "distill", *words]),
        again=Preempted.code,
    )
    write_text(path, filled)
    return shlex.join(["sbatch", str(path)])
