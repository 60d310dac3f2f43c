"""Costs of rows: times that are shared, flagged, missing or taken anew."""

from pathlib import Path
from typing import Any

from distill.report.compare.comparison import compare_records
from distill.report.compare.measured import Measured
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.run_folders import COSTS, MACHINE, write_run

AP = {"test/mask/AP": 0.3}


def section(*runs: RunFolder, measured: Measured | None = None) -> dict[str, Any]:
    (found,) = compare_records([RunRecord.read(run) for run in runs], measured=measured).sections
    return found


def timed(path: Path, latency: float, **planted: Any) -> RunFolder:
    return write_run(path, scores=AP, costs={**COSTS, "cpu_ms": latency}, **planted)


def values(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {row["name"]: row["values"][key] for row in found["rows"]}


def test_one_architecture_on_one_machine_has_one_time(tmp_path: Path) -> None:
    """Scratch and distilled are the same network; the median is over all that timed it."""
    runs = [timed(tmp_path / str(seed), latency, seed=seed) for seed, latency in enumerate((10, 40))]
    runs.append(timed(tmp_path / "distilled", 12, init="distilled"))
    found = values(section(*runs), "cpu_ms")
    for value in found.values():
        assert (value["mean"], value["sd"], value["n"], value["min"], value["max"]) == (12, None, 3, 10, 40)
    assert found["RS4D tiny · scratch"]["each"] == [[0, 10], [1, 40]]


def test_times_of_another_machine_are_red_and_take_no_part(tmp_path: Path) -> None:
    runs = [timed(tmp_path / str(seed), 10, seed=seed) for seed in (0, 1)]
    runs.append(timed(tmp_path / "small", 20, student="RS4D small"))
    runs.append(timed(tmp_path / "other", 1, student="RepViT m1", machine={**MACHINE, "threads": 1}))
    found = section(*runs)
    flags = {name: value["flag"] for name, value in values(found, "cpu_ms").items()}
    assert flags == {
        "RS4D tiny · scratch": None,
        "RS4D small · scratch": None,
        "RepViT m1 · scratch": "timed on 1 thread, others on 4 threads",
    }
    assert values(found, "params")["RepViT m1 · scratch"]["flag"] is None
    (latency, training) = [note["text"] for note in found["notes"] if note["level"] == "red"]
    assert latency.startswith("CPU latency was taken on different machines")
    assert "RepViT m1 · scratch: timed on 1 thread, others on 4 threads)" in latency
    assert training.startswith("training time")
    other = next(row for row in found["rows"] if row["student"] == "RepViT m1")
    assert "cpu_ms" not in other["best"]
    assert other["id"] not in found["pareto"]["cpu_ms"]


def test_seeds_of_one_row_on_two_machines_are_red(tmp_path: Path) -> None:
    other = {**MACHINE, "cpu": "Another CPU"}
    runs = [timed(tmp_path / "0", 10), timed(tmp_path / "1", 30, seed=1, machine=other)]
    (value,) = values(section(*runs), "cpu_ms").values()
    assert value["mean"] == 20
    assert "Another CPU" in value["flag"]


def test_a_gpu_that_only_some_had(tmp_path: Path) -> None:
    machine = {**MACHINE, "gpus": ["NVIDIA H200"]}
    on_gpu = write_run(tmp_path / "gpu", scores=AP, costs={**COSTS, "gpu_ms": 1.5}, machine=machine)
    cpu_only = write_run(tmp_path / "cpu", scores=AP, student="RS4D small")
    found = section(on_gpu, cpu_only)
    times = values(found, "gpu_ms")
    assert times["RS4D tiny · scratch"]["mean"] == 1.5
    assert times["RS4D tiny · scratch"]["flag"] is None
    assert times["RS4D small · scratch"] == {"missing": "timed on no GPU"}
    flags = {name: value["flag"] for name, value in values(found, "cpu_ms").items()}
    assert set(flags.values()) == {None}, "the CPU is the same"


def test_costs_of_no_row_have_no_column(tmp_path: Path) -> None:
    found = section(write_run(tmp_path / "old", scores=AP, costs={"params": 10.0}))
    assert [column["key"] for column in found["columns"]] == ["mask/AP", "params", "size_mb"]
    assert values(found, "size_mb")["RS4D tiny · scratch"]["mean"] == 4


def test_a_cost_that_only_some_recorded_says_how_to_get_it(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", scores=AP, costs={"params": 10.0}, student="RS4D small")
    found = section(write_run(tmp_path / "new", scores=AP), old)
    assert "--measure" in values(found, "cpu_ms")["RS4D small · scratch"]["missing"]
    assert values(found, "macs")["RS4D small · scratch"]["missing"] == "the run did not record it"


def test_measured_times_replace_those_of_the_runs(tmp_path: Path) -> None:
    runs = [
        timed(tmp_path / "a", 10),
        timed(tmp_path / "b", 1, student="RS4D small", machine={**MACHINE, "threads": 1}),
    ]
    machine = {**MACHINE, "torch": "2.15.0"}
    costs = {runs[0].path: {"cpu_ms": 5.0, "memory_mb": 7.0}, runs[1].path: {"cpu_ms": 6.0}}
    records = [RunRecord.read(run) for run in runs]
    content = compare_records(records, measured=Measured(machine, 20, costs)).as_json()
    assert content["measured"] == {**machine, "rounds": 20}
    (found,) = content["sections"]
    assert {name: value["mean"] for name, value in values(found, "cpu_ms").items()} == {
        "RS4D tiny · scratch": 5,
        "RS4D small · scratch": 6,
    }
    assert all(value["flag"] is None for value in values(found, "cpu_ms").values())
    assert values(found, "memory_mb")["RS4D small · scratch"] == {"missing": "it could not be timed here"}
    trained = [value["flag"] for value in values(found, "train_hours").values()]
    assert [flag is None for flag in trained].count(False) == 1, "training was not repeated"
