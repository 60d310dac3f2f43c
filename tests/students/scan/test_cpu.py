"""The compiled kernels as a machine meets them: built, cached, missing, broken, and never out of bounds."""

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from students.scan import backends, cpu, selective_scan
from students.scan.cpu import build, library
from students.scan.problem import Traits

ROOT = Path(__file__).parents[3]
COMPILER = library.best() is not None
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache that this test alone uses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    yield tmp_path
    library.load.cache_clear()


@needs_compiler
def test_compiles_once_into_the_cache(cache: Path) -> None:
    first = build.find_library("generic")
    written = first.stat().st_mtime_ns
    assert first.is_relative_to(cache)
    assert build.find_library("generic") == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == [first.name], "nothing half-written stays"


@needs_compiler
def test_changed_sources_are_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build._digest("generic")
    copy = cache / "kernels"
    copy.mkdir()
    for source in build.SOURCES.iterdir():
        (copy / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "SOURCES", copy)
    assert build._digest("generic") == before
    (copy / "scan.h").write_text((copy / "scan.h").read_text() + "\n")
    assert build._digest("generic") != before


def test_a_packaged_library_needs_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PACKAGED", cache)
    monkeypatch.setenv("PATH", "")
    (cache / "generic.so").touch()
    assert build.find_library("generic") == cache / "generic.so"


@needs_compiler
def test_without_openmp_threads_are_started_and_change_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's clang has no OpenMP."""

    def run() -> list[torch.Tensor]:
        random = torch.Generator().manual_seed(0)
        u, delta = (torch.randn(2, 256, 257, generator=random, requires_grad=True) for _ in range(2))
        B, C = (torch.randn(2, 16, 257, generator=random, requires_grad=True) for _ in range(2))
        A = -torch.rand(256, 16, generator=random)
        y = selective_scan(u, delta, A, B, C, delta_softplus=True, backend="cpu-generic")
        return [y, *torch.autograd.grad(y.square().sum(), [u, delta, B, C])]

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expected = run()
        monkeypatch.setattr(build, "_THREADS", ("-pthread",))
        library.load.cache_clear()
        (library_file,) = (cache / "distill-rs").iterdir()
        library_file.unlink()
        assert all(torch.equal(one, other) for one, other in zip(run(), expected, strict=True))
    finally:
        torch.set_num_threads(before)


def test_without_a_compiler_the_reason_is_kept_and_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert cpu.backend("generic").obstacle(Traits("cpu")) == (
        "no C++ compiler (install g++ or clang++, or name one in CXX)"
    )


def test_the_slow_path_is_announced_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    backends._notice.cache_clear()
    with pytest.warns(UserWarning, match=r"ten times slower: no C\+\+ compiler"):
        assert backends.choose_backend("auto", Traits("cpu")) == "chunked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose_backend("auto", Traits("cpu")) == "chunked"
        assert backends.choose_backend("auto", Traits("cpu", double=True)) == "chunked"


def test_a_failing_compiler_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = cache / "c++"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: no such instruction' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    reason = cpu.backend("generic").obstacle(Traits("cpu"))
    assert reason == f"{compiler} failed: x.cpp:1: error: no such instruction"


def test_a_processor_without_the_instructions_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert cpu.backend("avx512").obstacle(Traits("cpu")) == "this processor has no AVX512"


def test_what_the_kernels_do_not_compute_is_refused() -> None:
    assert "not on cuda" in cpu.backend("generic").obstacle(Traits("cuda"))
    for kind in ("double", "complex", "constant"):
        assert "float32" in cpu.backend("generic").obstacle(Traits("cpu", **{kind: True}))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 48, 64, 65, 128, 129, 192, 200, 512, 640])
def test_units_cover_the_channels(channels: int) -> None:
    """Python allocates one part of dB and dC per unit; the kernels must see as many."""
    units = library.units(channels)
    most = 2 * math.ceil(channels / (2 * library.UNIT))
    width = 16 * math.ceil(math.ceil(channels / most) / 16)  # scan_unit_width in scan.h
    assert width <= library.UNIT
    assert width * (units - 1) < channels <= width * units


def test_structs_mirror_the_headers() -> None:
    header = (build.SOURCES / "scan.h").read_text()
    for name in ("Problem", "Outputs", "Derivatives"):
        body = header[: header.index(f"}} {name};")].rsplit("typedef struct {", 1)[1]
        at = -1
        for field, _ in getattr(library, name)._fields_:
            position = next(
                (i for i in range(at + 1, len(body)) if body[i:].startswith(field) and not body[i - 1].isalnum()), -1
            )
            assert position > at, f"{name}.{field} is out of order or missing in scan.h"
            at = position
    assert f"SCAN_CHUNK = {library.CHUNK}, SCAN_UNIT = {library.UNIT}" in header
    assert f"CONV_TILE = {library.CONV_TILE}" in (build.SOURCES / "conv.h").read_text()


def _sanitizer() -> str:
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    path = Path(found.stdout.strip())
    return str(path.resolve()) if found.returncode == 0 and path.is_absolute() and path.exists() else ""


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux" or not COMPILER, reason="needs GCC's AddressSanitizer")
def test_no_access_out_of_bounds(tmp_path: Path) -> None:
    """All kernels, compiled with AddressSanitizer, over sizes that fill no vector, chunk or unit."""
    try:
        runtime = _sanitizer()
    except FileNotFoundError:
        runtime = ""
    if not runtime:
        pytest.skip("GCC's AddressSanitizer is not installed")
    isas = [isa for isa in build.ISAS if not cpu.backend(isa).obstacle(Traits("cpu"))]
    environment = os.environ | {
        "CXX": "g++ -fsanitize=address -g -fno-omit-frame-pointer",
        "XDG_CACHE_HOME": str(tmp_path),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_kernel.py")), *isas],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "clean", done.stderr[-4000:]
