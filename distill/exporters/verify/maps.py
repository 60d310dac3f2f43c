"""Compares the logits, probabilities and feature maps of an exported file with those of its run.

Axes: K classes, H W pixels, C channels.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

LOGIT = 1e-3
PIXELS = 1e-4  # share of pixels that may have another class; one may in any case
FEATURE = 1e-3  # of the root mean square of a map
PROBABILITY = 1e-4


@dataclass(frozen=True)
class LogitDifference:
    """The largest differences between two maps of logits.

    Attributes:
        logit: Largest difference.
        pixels: How many pixels have another class.
        of: How many there are.
    """

    logit: float
    pixels: int
    of: int
    compared: ClassVar = True

    @property
    def row(self) -> dict[str, str]:
        """The row of a table."""
        return {"logits": f"{self.logit:.1e}", "pixels of another class": f"{self.pixels / self.of:.3%}"}

    @property
    def failed(self) -> str | None:
        """The first difference above its tolerance, in words; None if there is none."""
        if not self.logit <= LOGIT:
            return f"logits differ by {self.logit:.3g}, allowed are {LOGIT:g}"
        if self.pixels > max(1, PIXELS * self.of):
            return f"the class of {self.pixels / self.of:.3%} of the pixels differs, allowed are {PIXELS:.2%}"
        return None


@dataclass(frozen=True)
class FeatureDifference:
    """The largest differences between the maps of two students.

    Attributes:
        name: Of the map that differs most.
        value: Its largest difference, as a share of its root mean square.
    """

    name: str
    value: float
    compared: ClassVar = True

    @property
    def row(self) -> dict[str, str]:
        """The row of a table."""
        return {"map that differs most": self.name, "of its root mean square": f"{self.value:.1e}"}

    @property
    def failed(self) -> str | None:
        """The first difference above its tolerance, in words; None if there is none."""
        if not self.value <= FEATURE:
            return f"{self.name} differs by {self.value:.3g} of its root mean square, allowed are {FEATURE:g}"
        return None


@dataclass(frozen=True)
class ProbabilityDifference:
    """The largest difference between two maps of probabilities, of which no pixel belongs to an instance.

    Attributes:
        value: Largest difference.
    """

    value: float
    compared: ClassVar = True

    @property
    def row(self) -> dict[str, str]:
        """The row of a table."""
        return {"instances": "0", "probabilities of pixels": f"{self.value:.1e}"}

    @property
    def failed(self) -> str | None:
        """The difference where it is above its tolerance, in words; None if it is not."""
        if self.value <= PROBABILITY:
            return None
        return f"probabilities of pixels differ by {self.value:.3g}, allowed are {PROBABILITY:g}"


def compare_logits(expected: NDArray[np.float32], found: NDArray[np.float32]) -> LogitDifference:
    """Compares logits (K, H, W)."""
    other = np.not_equal(*(each.argmax(axis=0) for each in (expected, found)))
    return LogitDifference(float(np.abs(expected - found).max()), int(other.sum()), other.size)


def compare_probabilities(expected: NDArray[np.float32], found: NDArray[np.float32]) -> ProbabilityDifference:
    """Compares probabilities of one shape."""
    return ProbabilityDifference(float(np.abs(expected - found).max()))


def compare_features(
    expected: dict[str, NDArray[np.float32]], found: dict[str, NDArray[np.float32]]
) -> FeatureDifference:
    """Compares maps (C, H, W) by name."""
    shares = {
        name: float(np.abs(values - found[name]).max() / max(float(np.sqrt(np.square(values).mean())), 1e-12))
        for name, values in expected.items()
    }
    worst = max(shares, key=lambda name: np.nan_to_num(shares[name], nan=np.inf))
    return FeatureDifference(worst, shares[worst])
