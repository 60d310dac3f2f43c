"""Findings of a verification: single faults, and images that show the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]

_SHOWN = 3  # images that stand for a set


def counted(number: int, thing: str) -> str:
    """ "1 pair", "2 pairs"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


@dataclass(frozen=True)
class Finding:
    """One finding, and what to do about it.

    Args:
        level: "error": training or scoring fails or is wrong; "warning": it may be; "note": good to know.
        part: Where, or "" for the whole data set.
        check: Which check found it.
        message: What is the case.
        advice: What to do.
        cases: Every case, one line each.
    """

    level: Level
    part: str
    check: str
    message: str
    advice: str
    cases: Sequence[str] = ()


@dataclass(frozen=True)
class Lookalikes:
    """Two images or more that show the same.

    Args:
        parts: The part of each.
        files: The file name of each.
        objects: The number of objects of each.
        how: How that is known.
    """

    parts: tuple[str, ...]
    files: tuple[str, ...]
    objects: tuple[int, ...]
    how: str

    @property
    def across(self) -> bool:
        """Whether they are of two parts or more."""
        return len(set(self.parts)) > 1

    @property
    def within(self) -> bool:
        """Whether two of them or more are of one part."""
        return len(set(self.parts)) < len(self.parts)

    @property
    def examples(self) -> list[int]:
        """Positions of some that stand for all, one of each part first."""
        first = [self.parts.index(part) for part in dict.fromkeys(self.parts)]
        return [*first, *(i for i in range(len(self.parts)) if i not in first)][:_SHOWN]

    def __str__(self) -> str:
        if len(self.files) == 2:
            return f"{', '.join(self.files)}: {self.how}"
        return f"{self.tally} show the same, e.g. {', '.join(self.files[i] for i in self.examples)}: {self.how}"

    @property
    def tally(self) -> str:
        """ "214 images (180 of train, 34 of val)"."""
        counts = ", ".join(f"{count:,} of {part}" for part, count in Counter(self.parts).items())
        return f"{len(self.files):,} images ({counts})"
