"""The selective scan on GPUs: Triton programs that compile on first use, without a build. Imports Triton on use.

What is known: the results of the programs under Triton's interpreter on a CPU; that they compile for NVIDIA's sm_90,
the registers they take there, and that they spill none. What is not: they have never run on a GPU, so neither their
results on one nor any time is measured.
"""

from students.scan.triton.launch import starts_shape
from students.scan.triton.scan import NOTE, backward, forward
from students.scan.triton.support import obstacle

__all__ = ["NOTE", "backward", "forward", "obstacle", "starts_shape"]
