"""The recipes for NWPU take real steps on real images; those for a GPU with small images and a small student."""

from pathlib import Path

import pytest

from distill.checkpoint import read_state_dict
from distill.cli import main

NWPU_ROOT = Path(__file__).parents[2] / "../shared/data/nwpu"
FEW = ["--data.train_limit=4", "--data.batch_size=1", "--data.num_workers=0", "--trainer.max_steps=2"]
SIDES = ["--data.image_size=128", "--model.student.image_size=128"]


@pytest.mark.skipif(not NWPU_ROOT.is_dir(), reason="needs NWPU VHR-10 in ../shared/data/nwpu")
@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("nwpu_mask_rcnn", [*SIDES, "--model.student.variant=tiny"]),
        ("nwpu_cascade", [*SIDES, "--model.student.variant=tiny"]),
        ("nwpu_mask_rcnn_cpu", SIDES),
        ("nwpu_cascade_cpu", SIDES),
    ],
)
def test_recipe_takes_real_steps(name: str, smaller: list[str], tmp_path: Path) -> None:
    folder = tmp_path / name
    arguments = [f"--data.root={NWPU_ROOT}", f"--run.dir={folder}", "--trainer.limit_val_batches=0", *FEW, *smaller]
    assert main(["fit", f"finetune/{name}", "--trainer.accelerator=cpu", *arguments]) == 0
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert read_state_dict(folder / "student.safetensors")
