"""A checkpoint that cannot be written leaves the one before, and a damaged one falls back to it."""

import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli import main
from distill.errors import UserError
from distill.runs.checkpoint_io import AtomicCheckpointIO, last_checkpoint


def content(step: int, size: int = 10_000) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"weight": torch.full((size,), float(step))}}


def step(path: Path | None) -> int:
    assert path is not None
    return int(torch.load(path, weights_only=True)["global_step"])


def test_the_one_before_is_of_an_earlier_step(tmp_path: Path) -> None:
    last, writer = tmp_path / "last.ckpt", AtomicCheckpointIO()
    for number in (1, 2, 2):
        writer.save_checkpoint(content(number), last)
    assert (step(last), step(tmp_path / "previous.ckpt")) == (2, 1)
    (tmp_path / ".last.ckpt.killed.ckpt").touch()
    AtomicCheckpointIO().save_checkpoint(content(3), last)
    assert (step(last), step(tmp_path / "previous.ckpt")) == (3, 2)
    writer.save_checkpoint(content(3), tmp_path / "best.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_falls_back(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any) -> None:
    assert last_checkpoint(tmp_path) is None
    writer = AtomicCheckpointIO()
    for number in (1, 2):
        writer.save_checkpoint(content(number), tmp_path / "last.ckpt")
    assert step(last_checkpoint(tmp_path)) == 2
    assert not caplog.messages
    damage(tmp_path / "last.ckpt")
    assert step(last_checkpoint(tmp_path)) == 1
    (line,) = caplog.messages
    assert "last.ckpt" in line
    assert "previous.ckpt of step 1" in line
    damage(tmp_path / "previous.ckpt")
    if (tmp_path / "previous.ckpt").exists():
        with pytest.raises(UserError, match=r"\.ckpt"):
            last_checkpoint(tmp_path)


def test_a_run_goes_on_and_is_scored_from_the_one_before(
    distill_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit = ["fit", str(distill_recipe), "--trainer.val_check_interval=2", "--run.checkpoint_every=1"]
    run = tmp_path / "run"
    assert main([*fit, "--trainer.max_steps=2"]) == 0
    truncate(run / "checkpoints" / "last.ckpt")
    assert main(["validate", str(run)]) == 0
    assert '"checkpoint": "previous.ckpt",\n  "step": 1' in (run / "validate_facts.json").read_text()
    assert main([*fit, "--trainer.max_steps=4", "--ckpt_path=last"]) == 0
    assert [line.count("previous.ckpt of step 1") for line in caplog.messages if "previous" in line] == [1, 1]
    assert step(run / "checkpoints" / "last.ckpt") == 4


def test_a_full_disk_leaves_the_good_file_and_is_one_line(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files may not grow beyond a limit, which fails as a full disk does, in the middle of a write."""
    fit = ["fit", str(distill_recipe), "--trainer.limit_val_batches=0", "--run.checkpoint_every=1"]
    assert main([*fit, "--trainer.max_steps=1"]) == 0
    last = tmp_path / "run/checkpoints/last.ckpt"
    good = last.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, before[1]))
    try:
        code = main([*fit, "--trainer.max_steps=2", "--ckpt_path=last"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2
    assert f"{last} cannot be written (File too large); free space" in capsys.readouterr().err
    assert last.read_bytes() == good
    assert not list(last.parent.glob(".*"))
