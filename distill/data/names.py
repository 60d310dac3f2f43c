"""Millions of names without a Python object for each: processes that are forked share them."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Names:
    """Texts in two arrays, which take a byte for each letter and 8 for each name.

    Args:
        letters: UTF-8 of all names, one after the other.
        ends: Where each ends in it.
    """

    def __init__(self, letters: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.letters = letters
        self.ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Stores texts; file names that are no UTF-8 come back as they are."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @classmethod
    def joined(cls, parts: "Iterable[Names]") -> "Names":
        """The names of all parts, in order."""
        kept = list(parts)
        starts = np.cumsum([0, *(len(part.letters) for part in kept)])
        ends = [part.ends + start for part, start in zip(kept, starts[:-1], strict=True)]
        return cls(np.concatenate([part.letters for part in kept]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = self.ends[number - 1] if number else 0
        return self.letters[start : self.ends[number]].tobytes().decode("utf-8", "surrogateescape")

    def many(self, numbers: NDArray[np.integer[Any]]) -> Iterator[str]:
        """Some of them, faster than one by one."""
        stops = self.ends[numbers]
        starts = np.where(numbers > 0, self.ends[numbers - 1], 0)
        letters = self.letters.data
        spans = zip(starts.tolist(), stops.tolist(), strict=True)
        return (str(letters[start:stop], "utf-8", "surrogateescape") for start, stop in spans)
