"""Identifies one view of one sample, and seeds random numbers by it."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SampleKey:
    """One view of one sample; what a training dataset is indexed with.

    Args:
        index: The sample.
        view: Which of its views, from 0: the epoch, or with a pool of V views the epoch modulo V.
        repeat: Which time the sample is drawn in this epoch; each has its own random choices.
        size: Side of the view in pixels, where it changes during training; None for the data set's own.
    """

    index: int
    view: int
    repeat: int = 0
    size: int | None = None


@contextmanager
def randomness_of(seed: int, key: SampleKey) -> Iterator[None]:
    """Seeds torch's CPU random numbers by `seed` and `key` inside the block, and restores them afterwards.

    `torch.manual_seed` is avoided on purpose: it would also reseed the accelerator, whose random numbers belong to
    training, when samples are prepared in the main process.
    """
    numbers = [seed, key.view, key.index, *([key.repeat] if key.repeat else [])]
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int.from_bytes(digest, "little", signed=True))
    try:
        yield
    finally:
        generator.set_state(before)
