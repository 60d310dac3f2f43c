"""Resuming inside an epoch changes nothing, and neither does the number of workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch.utils.data import Dataset

from distill.data.loader import ResumableSampler, evaluation_loader, train_loader
from distill.data.sample_key import SampleKey, randomness_of
from distill.errors import UserError


class Noise(Dataset[dict[str, Any]]):
    """Samples whose content is random: index, epoch and a random number."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: SampleKey) -> dict[str, Any]:
        if isinstance(draw, int):
            return {"index": draw, "epoch": -1, "noise": torch.zeros(2)}
        with randomness_of(3, draw):
            return {"index": draw.index, "epoch": draw.view, "noise": torch.rand(2)}


class Recorder(LightningModule):
    """Remembers what it was trained on, and one number from the global generator per step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((batch_idx, batch["index"].tolist(), batch["epoch"].tolist(), batch["noise"].tolist()))
        return (self.weight * batch["noise"]).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    def __init__(self, folder: Path, hook: str) -> None:
        self.folder, self.hook = folder, hook

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.hook == "batch":
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if self.hook == "validation" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.hook == "epoch":
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def _fit(
    workers: int, resume: Path | None = None, callbacks: list[Callback] | None = None, **limits: Any
) -> list[tuple[Any, ...]]:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **limits,
    )
    model = Recorder()
    trainer.fit(
        model,
        train_loader(Noise(11), 2, workers, seed=1, trainer=trainer),  # 5 batches, one sample left out
        evaluation_loader(Noise(2), 1, 0),
        ckpt_path=resume,
        weights_only=False,
    )
    return model.seen


@pytest.mark.parametrize("limits", [{"max_steps": 12}, {"max_epochs": 3}], ids=["steps", "epochs"])
@pytest.mark.parametrize("hook", ["batch", "epoch", "validation"])
def test_resumed_training_sees_the_same_batches(tmp_path: Path, limits: dict[str, int], hook: str) -> None:
    straight = _fit(0, callbacks=[SaveAt(tmp_path, hook)], **limits)
    assert len({str(batch) for batch in straight}) == len(straight) == (12 if "max_steps" in limits else 15)
    for checkpoint in tmp_path.iterdir():
        done = int(checkpoint.stem)
        if done < len(straight):
            assert _fit(0, checkpoint, **limits) == straight[done:], f"resumed after step {done}"


def test_resumed_training_with_workers_and_validation_inside_the_epoch(tmp_path: Path) -> None:
    straight = _fit(0, callbacks=[SaveAt(tmp_path, "batch")], max_steps=7, val_check_interval=2)
    assert _fit(2, tmp_path / "4.ckpt", max_steps=7, val_check_interval=2) == straight[4:]


def test_resumed_training_with_a_limited_epoch(tmp_path: Path) -> None:
    straight = _fit(0, callbacks=[SaveAt(tmp_path, "batch")], max_steps=8, limit_train_batches=3)
    for done in (2, 3, 4):
        assert _fit(0, tmp_path / f"{done}.ckpt", max_steps=8, limit_train_batches=3) == straight[done:]


def test_overfit_mode_repeats_one_unchanging_batch() -> None:
    first, second = _fit(0, max_steps=2, overfit_batches=1)
    assert first == second


def _take(loader: Any, count: int) -> list[Any]:
    iterator = iter(loader)
    return [{key: value.tolist() for key, value in next(iterator).items()} for _ in range(count)]


def test_workers_do_not_change_batches() -> None:
    epochs = [
        [_take(loader, 5), _take(loader, 5)]
        for loader in (train_loader(Noise(10), 2, workers, 0, None) for workers in (0, 2))
    ]
    assert epochs[0] == epochs[1]


def test_each_iterator_takes_the_next_epoch() -> None:
    loader = train_loader(Noise(6), 2, 0, 0, None)
    first, second = ([batch["index"].tolist() for batch in loader] for _ in range(2))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(6))
    assert first != second
    assert loader.state_dict() == {"epoch": 1, "batches": 3, "length": 3, "batch_size": 2, "processes": 1}
    again = [loader.batch(epoch, number)["index"].tolist() for epoch in range(2) for number in range(3)]
    assert again == [*first, *second]


def test_state_counts_batches_handed_out_not_prefetched() -> None:
    loader = train_loader(Noise(20), 2, 2, 0, None)
    iterator = iter(loader)
    first = [next(iterator)["index"].tolist() for _ in range(3)]
    state = loader.state_dict()
    assert state["batches"] == 3
    rest = [batch["index"].tolist() for batch in iterator]
    other = train_loader(Noise(20), 2, 0, 0, None)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert [batch["index"].tolist() for batch in other] == rest
    assert sorted(chain(*first, *rest)) == list(range(20))


def test_position_in_an_epoch_of_another_length_is_refused() -> None:
    loader = train_loader(Noise(8), 2, 0, 0, None)
    with pytest.raises(UserError, match="after batch 3 of 5: this recipe has 4 batches"):
        loader.load_state_dict({"epoch": 1, "batches": 3, "length": 5})
    loader.load_state_dict({"epoch": 1, "batches": 5, "length": 5})
    assert next(iter(loader))["epoch"].tolist() == [2, 2]


def test_too_few_samples_for_a_batch_still_give_one() -> None:
    assert [len(batch["index"]) for batch in train_loader(Noise(3), 4, 0, 0, None)] == [3]


def test_processes_share_the_samples() -> None:
    shares = [[draw.index for draw in ResumableSampler(Noise(10), 0, 2, rank)] for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(10))
    sampler = ResumableSampler(Noise(10), 0, 2, 1)
    sampler.start = 2
    assert [draw.index for draw in sampler] == shares[1][2:]


def test_randomness_is_restored_and_depends_on_all_parts() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    values = []
    for seed, draw in (
        (0, SampleKey(1, 2)),
        (0, SampleKey(2, 1)),
        (1, SampleKey(1, 2)),
        (0, SampleKey(1, 2)),
        (-1, SampleKey(0, 0)),
    ):
        with randomness_of(seed, draw):
            values.append(torch.rand(()).item())
    assert values[0] == values[3]
    assert len(set(values)) == 4
    assert torch.equal(torch.rand(2), expected)


def test_iterating_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    for loader in (train_loader(Noise(4), 2, 0, 0, None), evaluation_loader(Noise(4), 2, 0)):
        list(loader)
    assert torch.equal(torch.get_rng_state(), state)


REPEATS = [1.0, 2.5, 1.0, 1.0, 3.0, 1.0, 1.5]


def test_repeated_samples_are_shared_resumed_and_vary() -> None:
    shares = [[*ResumableSampler(Noise(7), 0, 2, rank, REPEATS)] for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == 6  # 11 draws and one to even out
    together = shares[0] + shares[1]
    assert len(set(together)) == 11
    assert {draw.index for draw in together} == set(range(7))
    assert sum(draw.index == 4 for draw in set(together)) == 3
    loader = train_loader(Noise(7), 2, 0, 0, None, repeats=REPEATS)
    epochs = [_take(loader, 5), _take(loader, 5)]
    assert epochs[0] != epochs[1]
    noise = [tuple(n) for batch in epochs[0] for n in batch["noise"]]
    assert len(set(noise)) == len(noise) == 10
    other = train_loader(Noise(7), 2, 0, 0, None, repeats=REPEATS)
    other.load_state_dict({"epoch": 0, "batches": 3, "length": 5})
    assert _take(other, 2) == epochs[0][3:]


def test_a_first_repetition_is_the_plain_draw() -> None:
    values = []
    for draw in (SampleKey(3, 1), SampleKey(3, 1, 0), SampleKey(3, 1, 1), SampleKey(3, 1, 2)):
        with randomness_of(0, draw):
            values.append(torch.rand(()).item())
    assert values[0] == values[1]
    assert len(set(values)) == 3


class Failing(Noise):
    def __getitem__(self, draw: SampleKey) -> dict[str, Any]:
        raise UserError("image 'a: b.png' is damaged")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_workers_are_one_line(workers: int) -> None:
    for loader in (train_loader(Failing(2), 1, workers, 0, None), evaluation_loader(Failing(2), 1, workers)):
        with pytest.raises(UserError) as caught:
            next(iter(loader))
        assert str(caught.value) == "image 'a: b.png' is damaged"


def test_workers_leave_signals_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are sent to whole process groups; a worker that ended would end the run before it has saved."""

    def signal_to(process: BaseProcess) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)  # type: ignore[arg-type]

    def start(process: BaseProcess, original: Callable[[BaseProcess], None] = BaseProcess.start) -> None:
        original(process)
        signal_to(process)  # before it has run a line of Python
        workers.append(process)

    workers: list[BaseProcess] = []
    monkeypatch.setattr(BaseProcess, "start", start)
    batches = iter(train_loader(Noise(8), 2, 2, 0, None))
    seen = [next(batches)["index"].tolist()]
    assert len(workers) == 2
    for worker in workers:
        signal_to(worker)
    seen += [batch["index"].tolist() for batch in batches]
    assert sorted(chain(*seen)) == list(range(8))


def test_a_process_ends_though_workers_of_another_loader_are_left(distill_recipe: Path, tmp_path: Path) -> None:
    """The training images' workers wait for the next epoch when the first validation image turns out to be none."""
    broken = tmp_path / "validation"
    broken.mkdir()
    (broken / "a.png").write_text("no image")
    words = [
        "fit",
        str(distill_recipe),
        f"--data.val_root={broken}",
        "--data.num_workers=2",
        "--model.calibration_images=2",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "distill", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert "all 1 images are broken" in ended.stderr.splitlines()[-1]
