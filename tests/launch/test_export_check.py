"""What is forgiven where a file is compared with its run: rounding, and nothing else."""

from typing import Any

import numpy as np
import torch

from distill.exported.session import Outputs
from distill.launch.export_check import _Decided
from tests.exported.small_files import PLANES


class File:
    """Gives the same probabilities for every image."""

    facts = PLANES

    def __init__(self, values: list[float]) -> None:
        self._values = np.array(values, np.float32).reshape(1, 1, 1, -1)

    def run(self, image: Any, size: Any) -> Outputs:
        return {"probabilities": self._values}


def test_the_run_decides_about_pixels_at_the_threshold_alone() -> None:
    at = PLANES.mask_threshold
    found = [at + 2e-5, at - 2e-5, at + 2e-4, at + 0.2, at - 0.2, at + 0.10001]
    run = [at - 1e-5, at + 1e-5, at - 1e-5, at - 0.2, at - 0.2, at + 0.1]
    view = np.zeros((1, 3, 1, 6), np.float32)

    def graph(image: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.tensor(run).view(1, 1, 1, -1),)

    decided = _Decided(File(found), graph).run(view, (1, 6))["probabilities"]  # type: ignore[arg-type]
    assert decided.ravel().tolist() == np.array([*run[:2], *found[2:]], np.float32).tolist()
