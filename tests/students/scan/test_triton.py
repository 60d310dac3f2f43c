"""The Triton backend against the reference on the CPU, where Triton interprets its programs, and compiled unseen."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from students.scan import explain_backend
from students.scan.layout import from_channel_first
from students.scan.problem import Traits
from students.scan.triton import launch, obstacle, support

pytest.importorskip("triton", reason="Triton is not installed")

from tests.students.scan.triton_cases import CASES, Case, make_scan

ROOT = Path(__file__).parents[3]


def run_module(module: str, **environment: str) -> dict[str, Any]:
    """The JSON that a module prints in a process of its own: Triton reads its environment once."""
    command = [sys.executable, "-W", "ignore", "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@functools.cache
def interpreted() -> dict[str, Any]:
    """What is wrong, by group of cases."""
    return run_module("tests.students.scan.triton_cases", TRITON_INTERPRET="1")


@pytest.mark.xdist_group("interpreted")  # one process serves all
@pytest.mark.parametrize("group", CASES)
def test_outputs_and_gradients_are_those_of_the_reference(group: str) -> None:
    assert interpreted()[group] == {name: {} for name in CASES[group]}


@pytest.mark.xdist_group("interpreted")
def test_it_is_a_pytorch_operator_that_autocast_does_not_reach() -> None:
    assert interpreted()["operator"] == {}


@pytest.mark.parametrize("states", [16, 64, 256])
def test_partial_sums_are_small(states: int) -> None:
    """Those of dB and dC have no more than 1/32 of the entries of all states."""
    scan = make_scan(Case(channels=768, tokens=1, states=states))
    cut = launch.Launch(scan, launch.BACKWARD)
    block = cut.config.rows * cut.config.lanes
    assert 1 < cut.parts <= min(launch.MOST_PARTS, 768 // launch.PART_CHANNELS)
    assert (cut.parts - 1) * cut.config.walk * block < 768 <= cut.parts * cut.config.walk * block


@pytest.mark.slow
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
    assert report["image, rank 48, bfloat16"]["outputs rows 1 lanes 16"]["REG"] <= 128


@pytest.mark.parametrize(
    ("traits", "reason"),
    [
        (Traits("cpu"), "runs on CUDA, not on cpu"),
        (Traits("cuda", double=True, constant=True), "float64 or B or C constant in time"),
        (Traits("cuda", complex=True), "complex"),
    ],
)
def test_obstacle_names_what_is_in_the_way(traits: Traits, reason: str) -> None:
    assert reason in obstacle(traits)


def test_the_interpreter_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert obstacle(Traits("cpu")) == "runs on CUDA, not on cpu"


def test_a_gpu_that_cannot_be_asked_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def forked(device: int | None) -> tuple[int, int]:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.\nUse 'spawn'")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", forked)
    assert obstacle(Traits("cuda")).endswith("Cannot re-initialize CUDA in forked subprocess.")


def test_the_gpu_of_the_scan_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the current one: the GPUs of a machine may differ."""
    with FakeTensorMode():
        tensors = [torch.empty(1, 4, 9, device=f"cuda:{index}") for index in (0, 1)]
    traits = [from_channel_first(x, x, x[0, :, :2], x, x, None, None, None, False, None).traits for x in tensors]
    assert traits == [Traits("cuda:0"), Traits("cuda:1")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device == 1 else (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert obstacle(Traits("cuda")) == obstacle(traits[0]) == ""
    assert obstacle(traits[1]) == "Triton needs compute capability 8.0, the GPU has 7.5"
    assert [row.reason for row in explain_backend("cuda:1") if row.name == "triton"] == [obstacle(traits[1])]


@pytest.fixture
def _fresh_probe() -> Iterator[None]:
    support._missing.cache_clear()
    yield
    support._missing.cache_clear()


@pytest.mark.usefixtures("_fresh_probe")
def test_a_broken_triton_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcuda.so.1 is damaged")

    monkeypatch.setattr(support, "import_module", broken)
    assert "libcuda.so.1 is damaged" in obstacle(Traits("cuda"))


@pytest.mark.usefixtures("_fresh_probe")
def test_an_old_triton_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "import_module", lambda name: SimpleNamespace(__version__="3.2.0"))
    assert obstacle(Traits("cuda")) == ("its programs need Triton 3.7, found 3.2.0; PyTorch 2.12 and later bring it")


def test_device_code_is_imported_on_use() -> None:
    code = "import sys, students.scan; print('students.scan.triton.tiles' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
