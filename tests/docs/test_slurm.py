"""The job script of docs/scale.md, run by bash with a stand-in for SLURM's programs."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import blocks


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (2, False), (137, False)])
def test_a_job_that_was_stopped_in_time_is_queued_again(tmp_path: Path, code: int, requeued: bool) -> None:
    (block,) = (block for block in blocks() if block.file == "distil.sh")
    script = block.text.replace("/shared", str(tmp_path))
    activate = tmp_path / "distill/.venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, ends in {"srun": code, "scontrol": 0}.items():
        program = programs / name
        program.write_text(f'#!/bin/bash\necho "$*" >> {tmp_path}/{name}.txt\nexit {ends}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_JOB_ID": "77"}

    def job() -> str:
        assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == code
        return (tmp_path / "srun.txt").read_text().splitlines()[-1]

    assert "distill fit" in (first := job())
    assert "--ckpt_path" not in first
    checkpoints = tmp_path / "runs/mine/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "previous.ckpt").touch()
    assert job().endswith("--ckpt_path last")
    asked = tmp_path / "scontrol.txt"
    assert (asked.read_text().split("\n") if asked.exists() else []) == (["requeue 77"] * 2 + [""] if requeued else [])
