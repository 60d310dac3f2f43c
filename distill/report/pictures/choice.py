"""Which images are shown: the same ones of every model on a data set, so that pictures can be put side by side."""

from collections.abc import Mapping, Set

SHOWN = 4  # images


def by_classes(classes: Mapping[int, Set[int]]) -> list[int]:
    """Up to `SHOWN` images by the classes they show: those with a new class, then those with objects, then any.

    Args:
        classes: Labels of the objects of each image, by its index.
    """
    shown: set[int] = set()
    first: list[int] = []
    for index, found in classes.items():
        if found - shown:
            first.append(index)
            shown |= found
    rest = sorted((index for index in classes if index not in first), key=lambda index: not classes[index])
    return [*first, *rest][:SHOWN]


def spread(count: int) -> list[int]:
    """Up to `SHOWN` of `count` images: the first, the last, and some between at equal distances."""
    shown = min(SHOWN, count)
    return [round(position * (count - 1) / max(1, shown - 1)) for position in range(shown)]
