"""The selective scan and the convolution on CPUs: C++ for AVX-512, AVX2 and any other processor, chosen at run time."""

from students.scan.cpu import library
from students.scan.cpu.build import ISAS
from students.scan.cpu.convolution import convolve, convolve_backward
from students.scan.cpu.scan import CpuBackend

__all__ = ["ISAS", "CpuBackend", "convolve", "convolve_backward", "library"]
