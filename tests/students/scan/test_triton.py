"""The Triton backend against the reference on the CPU, where Triton interprets its programs, and compiled unseen."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from students.scan import triton_kernels
from students.scan.problem import Traits

pytest.importorskip("triton", reason="Triton is not installed")

from tests.students.scan.triton_cases import CASES

ROOT = Path(__file__).parents[3]


def run_module(module: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON that a module prints in a process of its own: Triton reads its environment once."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("group", CASES)
def test_outputs_and_gradients_are_those_of_the_reference(group: str) -> None:
    report = run_module("tests.students.scan.triton_cases", group, TRITON_INTERPRET="1")
    assert report == {name: {} for name in CASES[group]}


def test_programs_compile_without_spilling(tmp_path: Path) -> None:
    from triton import knobs

    try:
        subprocess.run([knobs.nvidia.cuobjdump.path, "--version"], capture_output=True, check=True)
    except Exception as error:
        pytest.skip(f"Triton's CUDA tools are missing: {error}")
    report = run_module("tests.students.scan.triton_offline", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    for scan, programs in report.items():
        names = {program.split()[0] for program in programs}
        assert names == {"local_states", "local_gradients", "join", "outputs", "gradients"}, scan
        for program, usage in programs.items():
            assert usage["STACK"] == usage["LOCAL"] == 0, (scan, program, usage)
    # More would mean that threads do not own their channels: Triton laid the tiles out otherwise.
    assert report["image, 16 states, bfloat16"]["outputs rows 1 lanes 32"]["REG"] <= 128


@pytest.mark.parametrize(
    ("traits", "reason"),
    [
        (Traits("cpu"), "runs on CUDA, not on cpu"),
        (Traits("cuda", double=True, constant=True), "float64 or B or C constant in time"),
        (Traits("cuda", complex=True), "complex"),
    ],
)
def test_obstacle_names_what_is_in_the_way(traits: Traits, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert reason in triton_kernels.obstacle(traits)


@pytest.fixture
def _fresh_probe() -> Iterator[None]:
    triton_kernels._missing.cache_clear()
    yield
    triton_kernels._missing.cache_clear()


@pytest.mark.usefixtures("_fresh_probe")
def test_a_broken_triton_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcuda.so.1 is damaged")

    monkeypatch.setattr(triton_kernels, "import_module", broken)
    assert "libcuda.so.1 is damaged" in triton_kernels.obstacle(Traits("cuda"))


@pytest.mark.usefixtures("_fresh_probe")
def test_an_old_triton_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "import_module", lambda name: SimpleNamespace(__version__="3.2.0"))
    assert triton_kernels.obstacle(Traits("cuda")) == "needs Triton 3.7 or later, found 3.2.0"


def test_device_code_is_imported_on_use() -> None:
    code = "import sys, students.scan; print('students.scan.triton_tiles' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
