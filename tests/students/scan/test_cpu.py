"""The compiled kernels as a machine meets them: built, cached, missing, broken, and never out of bounds."""

import functools
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from students.scan import backends, cpu, selective_scan
from students.scan.cpu import build, library
from students.scan.problem import Traits

ROOT = Path(__file__).parents[3]
needs_compiler = pytest.mark.skipif(library.best() is None, reason="no C++ compiler")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache that this test alone uses; what is compiled into it is thrown away, and not worth optimising."""
    monkeypatch.setattr(build, "_FLAGS", tuple(flag.replace("-O3", "-O0") for flag in build._FLAGS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    yield tmp_path
    library.load.cache_clear()


@needs_compiler
def test_compiles_once_into_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = build.find_libraries("generic")
    written = first.stat().st_mtime_ns
    assert first.is_relative_to(cache)
    assert list(build.find_libraries("generic")) == [first]
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == [first.name], "nothing half-written stays"

    # A container without a compiler, or with another one that fails, that shares the cache takes what lies there.
    for variable, value in (("CXX", "false"), ("PATH", ""), ("CXX", "no-such-compiler -O1")):
        monkeypatch.setenv(variable, value)
        library.load.cache_clear()
        assert list(build.find_libraries("generic")) == [first]
        assert cpu.CpuBackend("generic").obstacle(Traits("cpu")) == ""
    u = torch.rand(1, 4, 9)
    assert selective_scan(u, u, -torch.rand(4, 2), u[:, :2], u[:, :2], backend="cpu-generic").shape == u.shape
    # Other flags, like other sources, are another library.
    monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, "-DOTHER"))
    library.load.cache_clear()
    assert "no-such-compiler" in cpu.CpuBackend("generic").obstacle(Traits("cpu"))


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
    assert next(build.find_libraries("generic")) == cache / "generic.so"


@needs_compiler
def test_a_packaged_library_that_does_not_load_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PACKAGED", cache)
    (cache / "generic.so").write_text("made for another system")
    assert cpu.CpuBackend("generic").obstacle(Traits("cpu")) == ""


@needs_compiler
def test_without_openmp_threads_are_started_and_change_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's clang has no OpenMP."""

    def run() -> list[torch.Tensor]:
        random = torch.Generator().manual_seed(0)
        u, delta = (torch.randn(2, 256, 65, generator=random, requires_grad=True) for _ in range(2))
        B, C = (torch.randn(2, 16, 65, generator=random, requires_grad=True) for _ in range(2))
        A = -torch.rand(256, 16, generator=random)
        y = selective_scan(u, delta, A, B, C, delta_softplus=True, backend="cpu-generic")
        return [y, *torch.autograd.grad(y.square().sum(), [u, delta, B, C])]

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expected, openmp = run(), library.load("generic").distill_openmp()
        monkeypatch.setattr(build, "_THREADS", ("-pthread",))
        library.load.cache_clear()
        assert all(torch.equal(one, other) for one, other in zip(run(), expected, strict=True))
        assert library.load("generic").distill_openmp() == 0
    finally:
        torch.set_num_threads(before)
    if sys.platform == "linux":
        assert openmp == 1


def test_each_compiler_has_its_own_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compile_library", lambda isa, target: target.touch())
    build._cache().mkdir()
    compilers = ["sh", "sh -O1", "sh"]
    found = []
    for compiler in compilers:
        monkeypatch.setenv("CXX", compiler)
        found += build.find_libraries("generic")
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_without_a_compiler_the_reason_is_kept_and_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert cpu.CpuBackend("generic").obstacle(Traits("cpu")) == (
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


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler -O1", "CXX names 'no-such-compiler', which is not found"), ("g++ '", "CXX cannot be read")],
)
def test_a_wrong_cxx_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert cpu.CpuBackend("generic").obstacle(Traits("cpu")).startswith(reason)


def test_no_home_directory_is_a_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(build.Path, "home", homeless)
    assert "XDG_CACHE_HOME" in cpu.CpuBackend("generic").obstacle(Traits("cpu"))


def test_a_failing_compiler_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = cache / "c++"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: no such instruction' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    reason = cpu.CpuBackend("generic").obstacle(Traits("cpu"))
    assert reason == f"{compiler} failed: x.cpp:1: error: no such instruction"


def test_a_processor_without_the_instructions_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert cpu.CpuBackend("avx512").obstacle(Traits("cpu")) == "needs AVX512, and PyTorch reports AVX2 here"


def test_what_the_kernels_do_not_compute_is_refused() -> None:
    assert "not on cuda" in cpu.CpuBackend("generic").obstacle(Traits("cuda"))
    for kind in ("double", "complex", "constant"):
        assert "float32" in cpu.CpuBackend("generic").obstacle(Traits("cpu", **{kind: True}))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 48, 64, 65, 128, 129, 192, 200, 512, 640])
def test_units_are_whole_vectors_that_fit_the_buffers(channels: int) -> None:
    assert library.unit_width(channels) % 16 == 0
    assert library.unit_width(channels) <= library.UNIT


@pytest.mark.parametrize("channels", [64, 128, 192, 512, 640])
def test_two_threads_get_equal_shares(channels: int) -> None:
    assert channels / library.unit_width(channels) % 2 == 0


@pytest.mark.parametrize("name", ["Tokens", "Weights", "Problem", "Outputs", "Derivatives", "Convolution"])
def test_structs_mirror_the_headers(name: str) -> None:
    header = (build.SOURCES / ("conv.h" if name == "Convolution" else "scan.h")).read_text()
    body = re.sub("//.*", "", header.split(f"struct {name} {{")[1].split("};")[0])
    struct = getattr(library, name, None) or getattr(library, f"_{name}")
    assert re.findall(r"(\w+)\s*(?=[,;])", body) == [field for field, _ in struct._fields_]


def test_sizes_mirror_the_headers() -> None:
    headers = "".join((build.SOURCES / name).read_text() for name in ("scan.h", "conv.h"))
    assert f"CHUNK = {library.CHUNK}, UNIT = {library.UNIT};" in headers
    assert f"CONV_TILE = {library.CONV_TILE};" in headers


def _sanitizer() -> str:
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    path = Path(found.stdout.strip())
    return str(path.resolve()) if found.returncode == 0 and path.is_absolute() and path.exists() else ""


@functools.cache
def _beside_guard_pages() -> str:
    """What the script says of all instruction sets that this processor has."""
    isas = [isa for isa in build.ISAS if not cpu.CpuBackend(isa).obstacle(Traits("cpu"))]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("guard_pages.py")), *isas],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr[-4000:]


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect and SIGSEGV as on Linux")
@pytest.mark.xdist_group("guard pages")  # one process serves all
@pytest.mark.parametrize("isa", build.ISAS)
def test_no_access_beyond_a_tensor(isa: str) -> None:
    """Beside pages that the processor refuses, masked loads and stores included; planted overruns are caught."""
    if obstacle := cpu.CpuBackend(isa).obstacle(Traits("cpu")):
        pytest.skip(f"the {isa} kernels are NOT tested for access beyond their tensors here: {obstacle}")
    said = _beside_guard_pages()
    assert f"{isa} is clean" in said.splitlines(), said


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="needs GCC's AddressSanitizer")
@pytest.mark.slow
@pytest.mark.parametrize("isa", build.ISAS)
def test_no_access_out_of_bounds(isa: str, tmp_path: Path) -> None:
    """Kernels compiled with AddressSanitizer, over sizes that fill no vector, chunk or unit.

    It watches buffers on the stack too, but no masked loads and stores: for those see `guard_pages.py`.
    """
    try:
        runtime = _sanitizer()
    except FileNotFoundError:
        runtime = ""
    if not runtime:
        pytest.skip("GCC's AddressSanitizer is not installed")
    if obstacle := cpu.CpuBackend(isa).obstacle(Traits("cpu")):
        pytest.skip(obstacle)
    environment = os.environ | {
        # Checks as calls, not inline: half the time to compile.
        "CXX": "g++ -fsanitize=address --param=asan-instrumentation-with-call-threshold=0 -g1 -fno-omit-frame-pointer",
        "XDG_CACHE_HOME": str(tmp_path),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_kernel.py")), isa],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "clean", done.stderr[-4000:]
