"""A loader that resumes exactly from the middle of an epoch.

Two properties make a resumed run identical to an uninterrupted one:

1. The order of an epoch is a function of (seed, epoch), and a sample's random choices are a function of (seed, view,
   sample), its view being the epoch or, with a pool of V views, the epoch modulo V. The side of a view that changes
   during training is a function of the step, which epoch and position tell. No random state has to be saved, and the
   number of workers changes nothing.
2. The position saved is the number of batches handed out, not the number that workers have prepared ahead.

Lightning stores `state_dict()` in its checkpoints, calls `load_state_dict()` before it iterates and `set_epoch()` on
the sampler before it takes the first batch, and then expects the remaining batches only (`FitLoop.setup_data` and
`FitLoop.on_advance_start`, pytorch-lightning 2.6).
"""

import atexit
import copy
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from distill.data.sample_key import SampleKey
from distill.data.selection import block_order, draw_repeats, epoch_size
from distill.data.size_schedule import SizeSchedule
from distill.errors import UserError

_GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Iterators with workers. PyTorch has no public way to end them: it does so once nothing refers to an iterator, but a
# loader with persistent workers does, and so do tracebacks. Killing the processes is none either, since PyTorch takes a
# killed worker for a failure of the run. `_shutdown_workers` was tried with PyTorch 2.15.
_begun: WeakSet[_MultiProcessingDataLoaderIter] = WeakSet()


class ResumableSampler(DistributedSampler[SampleKey]):
    """Shuffles by (seed, epoch), splits over processes, and can start inside an epoch.

    Being a `DistributedSampler` it is left in place by Lightning, which replaces any other kind when there are several
    processes. As there, the split is padded with repeated samples so that all processes take equally many steps.

    Args:
        dataset: What is sampled; only its length is used.
        seed: Decides the order together with the epoch.
        num_replicas: Number of processes.
        rank: Which of them this is.
        repeats: How often each sample is drawn in an epoch on average, 1 or more; without them, once. See
            `distill.data.selection.draw_repeats`.
        views: Size V of the pool of views of each sample; None for a new view in every epoch.
        size_at: Side of the views in pixels by epoch and place in this process's share of it; None for the data set's
            own.
        blocks: The block that each sample lies in, such as a file; near draws are then of few blocks, see
            `distill.data.selection.block_order`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        repeats: Sequence[float] | None = None,
        views: int | None = None,
        size_at: Callable[[int, int], int] | None = None,
        blocks: NDArray[np.int32] | None = None,
    ) -> None:
        drawn: Any = dataset if repeats is None else range(epoch_size(repeats))
        super().__init__(drawn, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.repeats = repeats
        self.views = views
        self.size_at = size_at
        self.blocks = blocks
        self.start = 0

    def __iter__(self) -> Iterator[SampleKey]:
        """The keys of this epoch and process, from `start` on."""
        epoch = self.epoch
        view = epoch if self.views is None else epoch % self.views
        drawn = None if self.repeats is None else draw_repeats(self.repeats, self.seed + epoch)
        indices = self._share(epoch)
        for place in range(self.start, len(indices)):
            index = int(indices[place])
            size = None if self.size_at is None else self.size_at(epoch, place)
            yield (
                SampleKey(index, view, 0, size)
                if drawn is None
                else SampleKey(drawn[index][0], view, drawn[index][1], size)
            )

    def _share(self, epoch: int) -> Tensor:
        """The order of an epoch, as far as this process draws it; a tensor, since lists of millions take gigabytes."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        count = len(self.dataset)  # type: ignore[arg-type]
        order = (
            torch.randperm(count, generator=generator) if self.blocks is None else block_order(self.blocks, generator)
        )
        padded = order.repeat(math.ceil(self.total_size / count))[: self.total_size]
        return padded[self.rank :: self.num_replicas]


class OneLineErrorLoader(DataLoader[Any]):
    """A `DataLoader` whose workers' `UserError`s arrive as one line, without the traceback that torch wraps around."""

    def __iter__(self) -> Any:
        """The batches."""
        with _signals_blocked():
            batches = super().__iter__()
        if isinstance(batches, _MultiProcessingDataLoaderIter):
            _begun.add(batches)
        try:
            yield from batches
        except UserError as error:
            # The traceback holds the iterator in a cycle, and workers that the garbage collector ends take seconds.
            error.__traceback__ = None
            if isinstance(batches, _MultiProcessingDataLoaderIter):
                batches._shutdown_workers()
            raise UserError(_last_line(str(error))) from None


class ResumableLoader(OneLineErrorLoader):
    """A training loader whose position is part of the checkpoint; see the top of this file.

    The first iterator takes the epoch that the trainer set on the sampler, each further one the next epoch. After
    `load_state_dict` the first starts after the last batch handed out; the sampler's epoch then only tells whether
    the trainer has finished the stored one (it may stop an epoch early), because a trainer that resumes at the very
    end of an epoch counts it twice.
    """

    _epoch: int | None = None
    _batches: int = 0
    _resume: bool = False

    def __iter__(self) -> Any:
        """The batches of the epoch that are still to come. Nothing is prepared before the first is asked for, because
        the trainer sets the epoch in between."""
        sampler = self.sampler
        if not isinstance(sampler, ResumableSampler):  # the trainer's overfit mode swaps in its own
            yield from super().__iter__()
            return
        if self._epoch is None:
            self._epoch, self._batches = sampler.epoch, 0
        elif not self._resume or sampler.epoch > self._epoch or self._batches >= len(self):
            self._epoch, self._batches = self._epoch + 1, 0
        self._resume = False
        sampler.set_epoch(self._epoch)
        sampler.start = self._batches * (self.batch_size or 1)
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    @property
    def position(self) -> tuple[int, int] | None:
        """Epoch and number of the batch that was handed out last; None before the first one."""
        return None if self._epoch is None else (self._epoch, self._batches - 1)

    def keys(self, epoch: int, number: int) -> list[SampleKey]:
        """The sample keys of a batch of this process.

        Args:
            epoch: The epoch.
            number: Of the batch in it, from 0.
        """
        sampler = copy.copy(self.sampler)
        assert isinstance(sampler, ResumableSampler)
        size = self.batch_size or 1
        sampler.start = number * size
        sampler.set_epoch(epoch)
        return list(islice(sampler, size))

    def batch(self, epoch: int, number: int) -> Any:
        """Makes a batch again, in this process."""
        return self.collate_fn([self.dataset[key] for key in self.keys(epoch, number)])

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches handed out in it, batches per epoch, and what a batch of all processes together is."""
        ahead = self.sampler.epoch if isinstance(self.sampler, ResumableSampler) else 0  # not in the overfit mode
        epoch = ahead if self._epoch is None else self._epoch
        shared = {"batch_size": self.batch_size or 1, "processes": self._processes}
        return {"epoch": epoch, "batches": self._batches, "length": len(self), **shared}

    @property
    def _processes(self) -> int:
        return self.sampler.num_replicas if isinstance(self.sampler, ResumableSampler) else 1

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Moves to a stored position.

        The number of processes may be another one when they take as many images a step together: global batch k of an
        epoch holds the same samples on any number of processes.

        Raises:
            UserError: The images of a step are more or fewer, or the position is inside an epoch of another length, so
                that it means other samples here.
        """
        size, processes = state.get("batch_size", self.batch_size or 1), state.get("processes", self._processes)
        if processes != self._processes and size * processes != (self.batch_size or 1) * self._processes:
            raise UserError(
                f"the run took {size * processes} images a step, {size} on each of {processes} processes; on "
                f"{self._processes} it would take {(self.batch_size or 1) * self._processes}. "
                + _batch_size_for(size * processes, self._processes)
            )
        if state["length"] != len(self) and 0 < state["batches"] < state["length"]:
            raise UserError(
                f"cannot resume after batch {state['batches']} of {state['length']}: this recipe has {len(self)} "
                "batches per epoch; keep data, batch_size and number of devices, or resume from the end of an epoch"
            )
        finished = state["batches"] >= state["length"]
        self._epoch, self._batches = state["epoch"], len(self) if finished else state["batches"]
        self._resume = True
        if isinstance(self.sampler, ResumableSampler):
            self.sampler.set_epoch(self._epoch)


def train_loader(
    dataset: Dataset[Any],
    batch_size: int,
    num_workers: int,
    seed: int,
    trainer: Trainer | None,
    collate: Callable[[list[Any]], Any] | None = None,
    repeats: Sequence[float] | None = None,
    views: int | None = None,
    sizes: SizeSchedule | None = None,
    blocks: NDArray[np.int32] | None = None,
) -> ResumableLoader:
    """A shuffled, resumable loader for this process of `trainer`.

    The last incomplete batch of an epoch is left out, unless the data does not fill a single one.
    """
    replicas, rank = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
    sampler = ResumableSampler(dataset, seed, replicas, rank, repeats, views, blocks=blocks)
    loader = ResumableLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=len(sampler) >= batch_size,
        **_common(num_workers, collate),
        persistent_workers=num_workers > 0,
    )
    if sizes is not None:
        batches, accumulated = len(loader), 1
        if trainer is not None:
            batches, accumulated = limited(trainer, batches), trainer.accumulate_grad_batches
        steps = math.ceil(batches / accumulated)  # of an epoch; the last may take fewer batches
        sampler.size_at = lambda epoch, place: sizes.at(epoch * steps + place // batch_size // accumulated)
    return loader


def limited(trainer: Trainer, batches: int) -> int:
    """How many of an epoch's batches the trainer takes."""
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def evaluation_loader(
    dataset: Dataset[Any],
    batch_size: int,
    num_workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
) -> OneLineErrorLoader:
    """A loader in file order. With several processes Lightning splits it and may repeat samples to even them out."""
    return OneLineErrorLoader(dataset, batch_size=batch_size, **_common(num_workers, collate))


def _common(num_workers: int, collate: Callable[[list[Any]], Any] | None) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _leave_signals_to_the_run,
        # Otherwise each new iterator would draw from the global generator and training would depend on their number.
        "generator": torch.Generator(),
    }


def _batch_size_for(images: int, processes: int) -> str:
    """How to go on with as many images a step."""
    if images % processes:
        return f"Go on with a number of processes that divides {images}"
    return f"Go on with --data.batch_size {images // processes}"


def _leave_signals_to_the_run(worker: int) -> None:
    """Ctrl-C and job queues signal whole process groups; a worker that ended would take the run down unsaved.

    Workers end when the run tells them to, or, as they look every few seconds, when it is gone.
    """
    for number in _GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started here have both signals blocked, so that none ends before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@atexit.register  # later than PyTorch and multiprocessing, so that it runs earlier
def _end_workers() -> None:
    """Ends workers that an error has left: they ignore the signal by which the end of this process would."""
    for batches in _begun:
        batches._shutdown_workers()


def _last_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1].partition(": ")[2] if len(lines) > 1 else message  # "package.ErrorClass: the message"
