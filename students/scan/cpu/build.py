"""Compiles the CPU kernels: into the wheel when it is built, else once on first use into the user's cache.

Plain C++17 without PyTorch's headers: a few seconds, and one library serves every PyTorch. Standard library only,
because `setup.py` runs it before anything is installed.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent / "kernels"
PACKAGED = Path(__file__).parent / "libraries"  # filled by setup.py

# One source file each, in order of preference.
ISAS = {
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "generic": (),
}
# No -ffast-math: it would lose NaN and infinity.
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno")
_THREADS = ("-fopenmp", "-pthread")  # Apple's clang has no OpenMP; the kernels then start threads of their own


class CompileError(Exception):
    """The kernels cannot be compiled here; the message is one line."""


def find_libraries(isa: str) -> Iterator[Path]:
    """Libraries of one instruction set, to be tried in turn: the package's, then one in the cache, compiled if need be.

    The cache keeps one library for each compiler. Where none is found, or it fails, those of other compilers do: the
    sources, flags and machine are the same.

    Raises:
        CompileError: There is no compiler, or it fails.
    """
    packaged = PACKAGED / f"{isa}.so"
    if packaged.exists():
        yield packaged
    cache, key = _cache(), f"scan-{isa}-{_digest(isa)}"
    try:
        cached = cache / f"{key}-{hashlib.sha256(shlex.join(_compiler()).encode()).hexdigest()[:8]}.so"
        if not cached.exists():
            compile_library(isa, cached)
    except CompileError:
        others = sorted(cache.glob(f"{key}-*.so"))
        if not others:
            raise
        yield from others
    else:
        yield cached


def compile_library(isa: str, target: Path) -> None:
    """Compiles one instruction set to a library; `target` appears complete or not at all.

    Raises:
        CompileError: There is no compiler, or it fails.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / target.name
            for threads in _THREADS:
                command = [*_compiler(), *_FLAGS, threads, *ISAS[isa], str(SOURCES / f"{isa}.cpp"), "-o", str(partial)]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    env=os.environ | {"LC_ALL": "C"},
                    timeout=600,
                    check=False,
                )
                if done.returncode == 0:
                    partial.replace(target)
                    return
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["without a word"]
        complaint = next((line for line in lines if "error" in line), lines[-1])
        raise CompileError(f"{command[0]} failed: {complaint[:300]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(str(error)) from error


def _compiler() -> list[str]:
    """The C++ compiler, with any options that the environment variable CXX gives it."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise CompileError(f"CXX cannot be read: {error}") from error
    if named and not shutil.which(named[0]):
        raise CompileError(f"CXX names {named[0]!r}, which is not found")
    for command in (named, ["c++"], ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    raise CompileError("no C++ compiler (install g++ or clang++, or name one in CXX)")


def _cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill-rs"
    except RuntimeError as error:
        raise CompileError("no home directory to keep the compiled kernels in: set XDG_CACHE_HOME") from error


def _digest(isa: str) -> str:
    """Changes with the sources, the flags and the machine."""
    parts = [platform.system(), platform.machine(), *_FLAGS, *_THREADS, *ISAS[isa]]
    content = hashlib.sha256("\0".join(parts).encode())
    for source in sorted(SOURCES.iterdir()):
        content.update(source.read_bytes())
    return content.hexdigest()[:16]
