"""What `tests/launch/test_several_processes.py` has two processes do, in an environment as torchrun sets it.

Runs of `distill`, of which one process of the last gets SIGTERM, then steps of every student under every task.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.cli import main
from distill.contracts import Target
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.instances import FineTuningModule
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.segmentation import SegmentationModule
from students import LALE, RS4D
from teachers import ViT
from tests.contract.cases import CLASSES, HEADS, STUDENTS, Case, build_head, build_student, narrow

SIDE = 64


class Step(nn.Module):
    """Puts a task's training step where data-parallel training looks for it."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.task = task
        task.log = task.log_dict = lambda *_, **__: None

    def forward(self, batch: dict[str, Any]) -> Tensor:
        loss: Tensor = self.task.training_step(batch, 0)
        return loss


def distillation(student: Any, teacher: ViT) -> DistillationModule:
    """With an adapter only where the channels differ."""
    level = "token" if isinstance(student, RS4D | LALE) else "image"
    task = DistillationModule(teacher, student, "embedding", CorruptionSettings(noise=0.2, mask=0.2, level=level))
    task.match.statistics = TargetStatistics.of([teacher(torch.rand(4, 3, SIDE, SIDE))["embedding"]], 4)
    return task


def supervised(student: Any, head: Case) -> FineTuningModule | SegmentationModule:
    """The task that a head belongs to."""
    factory = partial(_head, head)
    built: Any = _head(head, student.feature_info, list(CLASSES))
    task = (FineTuningModule if hasattr(built, "predict") else SegmentationModule)(student, factory)
    task.build(list(CLASSES))
    return task


def _head(case: Case, info: Any, names: list[str]) -> nn.Module:
    return build_head(case, info, class_names=names)


def batch(rank: int) -> dict[str, Any]:
    """Two images with an object each, others on each process."""
    torch.manual_seed(rank)
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    masks[:, 8:40, 16:56] = True
    target = Target(
        image_id=1,
        boxes=torch.tensor([[16.0, 8.0, 56.0, 40.0]]),
        labels=torch.tensor([rank]),
        masks=masks,
        crowd=torch.tensor([False]),
        size=(SIDE, SIDE),
        original_size=(SIDE, SIDE),
    )
    return {"image": torch.rand(2, 3, SIDE, SIDE), "targets": [target] * 2, "label": masks[[0, 0]].long()}


def tasks(teacher: ViT) -> Iterator[tuple[str, Any]]:
    """Every student distilled and under a head of both tasks, and every head on the students with most to leave out."""
    for name, case in STUDENTS.items():
        yield f"distillation into {name}", distillation(build_student(case), teacher)
        if "two maps" in name:
            continue
        for head in HEADS if name == "LALE" else ("DenseMasks", "SegHead"):
            yield f"{head} on {name}", supervised(build_student(case), HEADS[head])


def steps() -> list[str]:
    """A step of each, and what went wrong."""
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    options = {"img_size": SIDE, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    with tempfile.TemporaryDirectory() as folder:
        import timm

        torch.save(timm.create_model("vit_tiny_patch16_224", **options).state_dict(), Path(folder) / "vit.pth")
        teacher = ViT("vit_tiny_patch16_224", str(Path(folder) / "vit.pth"), options=options)
    failed = []
    for name, task in tasks(teacher):
        step = DistributedDataParallel(Step(task.train()))
        step(batch(rank)).backward()
        bare = [name for name, p in step.named_parameters() if p.requires_grad and p.grad is None]
        if bare:  # the next step would end with "Expected to have finished reduction in the prior iteration"
            failed.append(f"{name}: no gradient for {', '.join(bare)}")
            continue
        gradients = torch.cat([p.grad.flatten() for p in step.parameters() if p.grad is not None])
        both = [torch.empty_like(gradients) for _ in range(2)]
        torch.distributed.all_gather(both, gradients)
        if not torch.equal(*both):
            failed.append(f"{name}: the processes have other gradients")
    return failed


def work(rank: int, folder: Path, port: int) -> None:
    """What one of the processes does; its output and its warnings are in `said_<rank>.txt`."""
    started = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    started |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "two"}
    os.environ |= {name: str(value) for name, value in started.items()}
    with (
        (folder / f"said_{rank}.txt").open("w", encoding="utf-8") as said,
        redirect_stdout(said),
        redirect_stderr(said),
        warnings.catch_warnings(record=True) as warned,
        pytest.MonkeyPatch.context() as patch,
    ):
        warnings.simplefilter("always")
        for words in (["fit", f"{folder}/mean.yaml"], ["fit", f"{folder}/real.yaml"], ["test", f"{folder}/real"]):
            assert main([*words, "--trainer.devices=2"]) == 0, words
        term = {"class_path": "tests.launch.resuming.Interrupt", "init_args": {"step": 0, "number": 15, "rank": 1}}
        words = [f"--run.dir={folder}/stopped", "--trainer.devices=2", f"--trainer.callbacks={json.dumps([term])}"]
        code = main(["fit", f"{folder}/mean.yaml", *words])
        (folder / f"stopped_{rank}.json").write_text(json.dumps(code))
        narrow(patch)
        (folder / f"failed_{rank}.json").write_text(json.dumps(steps()))
        said.writelines(f"{warning.message}\n" for warning in warned)
    torch.distributed.destroy_process_group()
