"""Which sample of which epoch, and random numbers that depend on that alone."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SampleKey:
    """One sample of one epoch; what a training dataset is indexed with.

    Args:
        index: The sample.
        epoch: The epoch, from 0.
        repeat: Which time the sample is drawn in this epoch; each has its own random choices.
    """

    index: int
    epoch: int
    repeat: int = 0


@contextmanager
def randomness_of(seed: int, key: SampleKey) -> Iterator[None]:
    """Inside, torch's CPU random numbers depend on `seed` and `key` alone; afterwards they go on as before.

    `torch.manual_seed` is avoided on purpose: it would also reseed the accelerator, whose random numbers belong to
    training, when samples are prepared in the main process.
    """
    numbers = [seed, key.epoch, key.index, *([key.repeat] if key.repeat else [])]
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int.from_bytes(digest, "little", signed=True))
    try:
        yield
    finally:
        generator.set_state(before)
