"""The interface by which long work reports its progress."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# Wraps a sequence to show progress over it: the sequence, and what is being done.
Track = Callable[[Sequence[T], str], Iterable[T]]


def silent(sequence: Sequence[Any], _: str) -> Sequence[Any]:
    """No progress is shown."""
    return sequence
