"""Handling of images that cannot be read: stop at the first, or replace them with a warning."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from distill.data.images import BrokenImage
from distill.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

POLICIES = ("skip", "raise")

T = TypeVar("T")


class BrokenImages:
    """Reads samples, replaces those whose image is broken by the next readable one, and remembers which were broken.

    The replacement depends only on the files, so runs repeat. The warnings wait until one is readable: where none is,
    the error is all there is to say. The record lies in shared memory: what a loader's worker
    finds is known to every worker and to the main process.

    Args:
        count: Number of samples.
        on_error: "skip" names a broken image once in a warning and replaces it; "raise" stops.

    Raises:
        UserError: `on_error` is neither of the two.
    """

    def __init__(self, count: int, on_error: str) -> None:
        if on_error not in POLICIES:
            raise unknown_name("on_error policy", on_error, POLICIES)
        self.on_error = on_error
        self._broken = torch.zeros(count, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self._broken)

    @property
    def indices(self) -> list[int]:
        """The samples found broken so far."""
        return self._broken.nonzero().flatten().tolist()

    def read(self, index: int, read_sample: Callable[[int], T]) -> tuple[int, T]:
        """Calls `read_sample` with `index`, or with the next index whose image can be read.

        Returns:
            The index that was read, and the sample.

        Raises:
            BrokenImage: Under "raise", the image of `index` is broken.
            UserError: Under "skip", all images are broken.
        """
        count = len(self._broken)
        faults: list[BrokenImage] = []
        for candidate in ((index + step) % count for step in range(count)):
            if self._broken[candidate]:
                continue
            try:
                sample = read_sample(candidate)
            except BrokenImage as error:
                if self.on_error == "raise":
                    raise
                self._broken[candidate] = True
                faults.append(error)
                continue
            for fault in faults:
                logger.warning("%s; another image replaces it (on_error: skip)", fault)
            return candidate, sample
        try:
            return 0, read_sample(0)
        except BrokenImage as error:
            raise UserError(f"all {count} images are broken; the first: {error}") from None

    def report(self) -> None:
        """Logs how many images were skipped, if any."""
        if skipped := len(self.indices):
            logger.warning("skipped %d of %d images because they are broken", skipped, len(self._broken))
