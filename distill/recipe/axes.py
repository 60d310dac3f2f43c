"""The axes of a sweep: keys and values, as `distill sweep --over KEY=A,B,C` names them, and the cells they span."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from distill.errors import UserError
from distill.recipe.compose import read_value

RECIPE = "recipe"  # the axis whose values are recipes, put over the given ones
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_RANGE = re.compile(r"(?P<log>log:)?(?P<low>[^,\s]+?)\.\.(?P<high>[^,\s]+)")
_LONGEST = 60  # characters of a value in the name of a folder


@dataclass(frozen=True)
class Axis:
    """A key and the values that it takes in turn.

    Attributes:
        key: Dotted, as on the command line; `RECIPE` for recipes.
        values: As on the command line.
    """

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A key and the range that a search samples its values from.

    Attributes:
        key: Dotted, as on the command line.
        low: The least value.
        high: The largest value.
        log: Whether its logarithm is sampled.
        whole: Whether only whole numbers are.
    """

    key: str
    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class Cell:
    """One choice of a value for every key.

    Attributes:
        name: Of its folder.
        values: By key.
    """

    name: str
    values: Mapping[str, str]

    @property
    def recipes(self) -> list[str]:
        """Recipes that go over the given ones."""
        return [value for key, value in self.values.items() if key == RECIPE]

    @property
    def words(self) -> list[str]:
        """The overrides of the cell."""
        return [f"--{key}={value}" for key, value in self.values.items() if key != RECIPE]


def read_axis(key: str, given: str | Sequence[Any]) -> Axis | Range:
    """Reads an axis from the command line.

    Args:
        key: Dotted key of the recipe.
        given: Values as on the command line, "A,B,C" or "low..high" or "log:low..high"; or a list of texts.

    Raises:
        UserError: No key, no value, a value twice, an open bracket, or a range that is none.
    """
    if not re.fullmatch(r"\w+(\.\w+)*", key):
        raise UserError(f"--over: {key!r} is no key of a recipe; give KEY=A,B,C, such as trainer.max_steps=300,1200")
    if isinstance(given, str) and (found := _RANGE.fullmatch(given.strip())) is not None:
        return _range(key, given, found)
    values = tuple(_split(key, given) if isinstance(given, str) else given)
    if not values or "" in values:
        raise UserError(f"--over {key}={given}: a value is empty; give KEY=A,B,C")
    if len(set(values)) < len(values):
        raise UserError(f"--over {key}: {given} has a value twice; give each once, and repetitions as --seeds")
    return Axis(key, values)


def cells(axes: Sequence[Axis]) -> list[Cell]:
    """The grid: every combination of values, those of the last axis next to each other.

    A cell is named after its values, not by number, so that a sweep with further values keeps what it has.

    Raises:
        UserError: Two axes have one key, or two values one name.
    """
    keys = [axis.key for axis in axes]
    if len(set(keys)) < len(keys):
        raise UserError(f"--over names {max(keys, key=keys.count)} twice; give all its values at once")
    for axis in axes:
        taken: dict[str, str] = {}
        for value in axis.values:
            if (other := taken.setdefault(_slug(value), value)) != value:
                raise UserError(
                    f"--over {axis.key}: {other} and {value} would have one folder; make two sweeps of them, with --out"
                )
    labels = _labels(keys)
    found = []
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = dict(zip(keys, values, strict=True))
        found.append(Cell(",".join(f"{labels[key]}={_slug(value)}" for key, value in chosen.items()), chosen))
    return found


def _range(key: str, given: str, found: re.Match[str]) -> Range:
    low, high = read_value(found["low"]), read_value(found["high"])
    try:
        ends = float(low), float(high)
    except (TypeError, ValueError):
        ends = math.nan, math.nan
    log = found["log"] is not None
    if not -math.inf < ends[0] < ends[1] < math.inf or (log and ends[0] <= 0):
        raise UserError(
            f"--over {key}={given} is no range; give numbers that ascend, such as 0.1..0.5, or log:1e-4..1e-2, both "
            "above 0"
        )
    return Range(key, *ends, log, isinstance(low, int) and isinstance(high, int))


def _split(key: str, text: str) -> Iterator[str]:
    """The parts between commas, those inside brackets and quotes left alone."""
    open_ones: list[str] = []
    part = ""
    for character in text:
        if character == "," and not open_ones:
            yield part.strip()
            part = ""
            continue
        part += character
        if open_ones and character == open_ones[-1]:
            open_ones.pop()
        elif open_ones and open_ones[-1] in "'\"":
            pass
        elif character in _BRACKETS:
            open_ones.append(_BRACKETS[character])
        elif character in "'\"" and not part[:-1].strip(" [{(,:"):
            open_ones.append(character)
    if open_ones:
        raise UserError(f"--over {key}={text}: {open_ones[-1]} is missing at the end")
    yield part.strip()


def _labels(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or as many as tell it from the others."""
    labels = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        labels[key] = next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
    return labels


def _slug(value: str) -> str:
    """A value as a part of the name of a folder, with a digest where something is lost that may tell it from others."""
    slug = re.sub(r"[^\w.+-]+", "_", value).strip("_")
    lost = len(slug) > _LONGEST or re.search(r"[^\w\s.+\-/:{}\[\],]", value) or not slug.strip(".")
    return f"{slug[:_LONGEST].strip('.')}~{sha256(value.encode()).hexdigest()[:6]}" if lost else slug
