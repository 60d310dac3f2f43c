"""Every backend that runs on a GPU against the float64 reference on the CPU: outputs, last states and all gradients."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from tests.students.scan.problems import IMAGES, OPTIONS, STATE_OPTIONS, TOLERANCE, Problem, cases, check, grid

LOW = [
    Problem(channels=17, length=65, dtype=torch.bfloat16),
    Problem(channels=17, order="cross", grid=(4, 5), rank=2, dtype=torch.bfloat16),
]
# mamba-ssm takes exponentials fast, and rounds every direction's output and gradients to the input's dtype.
MAMBA_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def check_on_gpu(problem: Problem, dtype: torch.dtype, backend: str, tolerance: float | None = None) -> None:
    check(problem, dtype, backend, "cuda", tolerance=MAMBA_TOLERANCE[dtype] if backend == "mamba-ssm" else tolerance)


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(grid(), torch.float32, device="cuda"))
def test_sizes(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check_on_gpu(problem, dtype, backend)


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"),
    cases([*OPTIONS, *STATE_OPTIONS, *IMAGES], torch.float32, torch.float64, device="cuda"),
)
def test_options_and_images(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check_on_gpu(problem, dtype, backend)


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(LOW, torch.bfloat16, torch.float16, device="cuda"))
def test_low_precision(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check_on_gpu(problem, dtype, backend, TOLERANCE[dtype])
