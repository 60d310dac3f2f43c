"""Adds the compiled CPU kernels to the wheel where a compiler is at hand; everything else is in pyproject.toml.

An editable install compiles them on first use instead, into the user's cache.
"""

import importlib.util
import logging
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_CPU = Path("students", "scan", "cpu")
_spec = importlib.util.spec_from_file_location("build_kernels", Path(__file__).parent / _CPU / "build.py")
assert _spec is not None
assert _spec.loader is not None
kernels = importlib.util.module_from_spec(_spec)  # not by name: `students` needs torch
_spec.loader.exec_module(kernels)


class BuildWithKernels(build_py):
    """Compiles what this machine can; the others are compiled, or done without, where the wheel is installed."""

    def run(self) -> None:
        """Copies the packages, then compiles next to them."""
        super().run()
        if self.editable_mode:
            return
        for isa in kernels.ISAS:
            try:
                kernels.compile_library(isa, Path(self.build_lib, _CPU, kernels.PACKAGED.name, f"{isa}.so"))
            except kernels.CompileError as error:
                self.announce(f"no {isa} scan kernel in this wheel: {error}", logging.WARNING)


class WheelWithKernels(bdist_wheel):
    """Any Python, because the kernels know neither Python nor PyTorch, but this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform."""
        return "py3", "none", super().get_tag()[2]


class CompiledDistribution(Distribution):
    """Tells setuptools that the wheel holds machine code, which it sees of extension modules alone."""

    def has_ext_modules(self) -> bool:
        """Whether there is machine code."""
        return True


setup(
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelWithKernels},
    distclass=CompiledDistribution,
    # An editable install is an entry of sys.path, not a finder behind it: a mere folder `heads` in a user's project,
    # which Python takes for a namespace package, then does not hide ours.
    options={"editable_wheel": {"mode": "compat"}},
)
