"""Precision and recall by COCO's metric, and the averages that are reported.

Axes: T = 10 IoU thresholds .50:.95, R = 101 recalls 0:1, K classes in label order, A = 4 sizes of objects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(range(50, 100, 5))  # IoU, in percent
SIZES = ("all", "small", "medium", "large")  # COCO's: borders at 32 and 96 px squared


@dataclass(frozen=True)
class Scores:
    """Precision and recall of one kind of overlap; -1 where there is nothing to find.

    Attributes:
        class_names: Names in label order.
        precision: Interpolated precision (T, R, K, A).
        recall: Highest recall (T, K, A).
    """

    class_names: list[str]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """AP, AP50, AP75, AP by size, AR, and `AP/<class>`, each the mean over all classes that exist."""
        names = enumerate(self.class_names)
        return self._row(slice(None)) | {f"AP/{name}": _mean(self.precision[:, :, k, 0]) for k, name in names}

    def by_class(self) -> dict[str, dict[str, float]]:
        """AP, AP50, AP75, AP by size and AR of every class."""
        return {name: self._row(k) for k, name in enumerate(self.class_names)}

    def curve(self, threshold: int) -> NDArray[np.float64]:
        """Precision (R, K) over recall at an IoU threshold in percent; NaN where there is nothing to find."""
        curve = self.precision[THRESHOLDS.index(threshold), :, :, 0]
        return np.where(curve > -1, curve, np.nan)

    def _row(self, k: int | slice) -> dict[str, float]:
        precision, recall = self.precision[:, :, k], self.recall[:, k]
        return {
            "AP": _mean(precision[..., 0]),
            "AP50": _mean(precision[THRESHOLDS.index(50), ..., 0]),
            "AP75": _mean(precision[THRESHOLDS.index(75), ..., 0]),
            **{f"AP_{size}": _mean(precision[..., SIZES.index(size)]) for size in SIZES[1:]},
            "AR": _mean(recall[..., 0]),
        }


def _mean(values: NDArray[np.float64]) -> float:
    """Mean over the entries that exist; COCOeval marks the others by -1."""
    existing = values[values > -1]
    return float(existing.mean()) if existing.size else float("nan")
