"""Run folders with planted numbers give the planted means, intervals, frontiers and dominated rows."""

import math
from pathlib import Path
from typing import Any

import pytest

from distill.report.compare.comparison import compare_records
from distill.report.run_record import RunRecord
from tests.run_folders import write_run

# mask AP by seed, then params (M), multiply-adds (G), CPU latency (ms).
PLANTED: dict[tuple[str, str], tuple[dict[int, float], float, float, float]] = {
    ("RS4D tiny", "scratch"): ({0: 0.30, 1: 0.32, 2: 0.34}, 1, 0.2, 10),
    ("RS4D tiny", "distilled"): ({0: 0.33, 1: 0.36, 2: 0.36}, 1, 0.2, 10),
    ("RS4D small", "distilled"): ({0: 0.40}, 2, 0.4, 20),
    ("RepViT m1", "distilled"): ({0: 0.35}, 3, 0.5, 15),
    ("MobileNet v4", "distilled"): ({0: 0.36}, 5, 0.15, 12),
}


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("planted")
    runs = []
    for (student, init), (scores, params, macs, latency) in PLANTED.items():
        for seed, ap in scores.items():
            costs = {"params": params * 1e6, "macs": macs * 1e9, "cpu_ms": latency, "memory_mb": 100, "train_hours": 1}
            path = place / f"{student}_{init}_{seed}"
            weights = "distil/student.safetensors"
            scored = {"test/mask/AP": ap, "test/box/AP": ap + 0.1}
            runs.append(
                write_run(path, student=student, init=init, seed=seed, weights=weights, scores=scored, costs=costs)
            )
    # The teacher is better and cheaper than all, and still only a reference.
    teacher = {"params": 1e5, "macs": 1e7, "cpu_ms": 1, "memory_mb": 1}
    runs.append(write_run(place / "teacher", student="ViT b", scores={"test/mask/AP": 0.9}, costs=teacher))
    runs.append(write_run(place / "distil", "distillation", weights="teacher/student.safetensors"))
    return compare_records([RunRecord.read(run) for run in runs]).sections[0]


@pytest.fixture
def rows(section: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in section["rows"]}


def test_seeds_are_folded(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["RS4D tiny · scratch"]["values"]["mask/AP"] == {
        "mean": 0.32,
        "sd": 0.02,
        "n": 3,
        "min": 0.3,
        "max": 0.34,
        "each": [[0, 0.3], [1, 0.32], [2, 0.34]],
        "flag": None,
    }
    distilled = rows["RS4D tiny · distilled"]["values"]
    assert (distilled["mask/AP"]["mean"], distilled["mask/AP"]["sd"]) == (0.35, 0.0173205)  # sqrt(0.0003)
    assert distilled["box/AP"]["mean"] == 0.45
    single = rows["RS4D small · distilled"]["values"]["mask/AP"]
    assert (single["mean"], single["sd"], single["n"]) == (0.4, None, 1)


def test_gain_is_paired_by_seed(rows: dict[str, dict[str, Any]]) -> None:
    gain = rows["RS4D tiny · distilled"]["values"]["gain"]
    # Differences 0.03, 0.04, 0.02; half of the interval is 4.302653 (t, 2 degrees of freedom, 97.5 %) * 0.01 / sqrt(3).
    assert gain["each"] == [[0, 0.03], [1, 0.04], [2, 0.02]]
    assert (gain["mean"], gain["sd"], gain["n"]) == (0.03, 0.01, 3)
    assert (gain["low"], gain["high"]) == (0.00515862, 0.0548414)
    assert gain["scratch"] == rows["RS4D tiny · scratch"]["id"]
    assert "no scratch baseline of RS4D small" in rows["RS4D small · distilled"]["values"]["gain"]["missing"]
    assert "--model.student.checkpoint null" in rows["RS4D small · distilled"]["values"]["gain"]["missing"]


def test_a_scratch_baseline_has_the_same_head(tmp_path: Path) -> None:
    scratch = write_run(tmp_path / "scratch", scores={"test/mask/AP": 0.3})
    other_head = {"model.init_args.head.class_path": "heads.Other"}
    distilled = write_run(
        tmp_path / "d", init="distilled", scores={"test/mask/AP": 0.4}, head="Other", recipe=other_head
    )
    (section,) = compare_records([RunRecord.read(run) for run in (scratch, distilled)]).sections
    gain = next(row["values"]["gain"] for row in section["rows"] if row["init"] == "distilled")
    assert "no scratch baseline of RS4D tiny with Other" in gain["missing"]


def test_equal_values_are_not_best(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / init, init=init, scores={"test/mask/AP": 0.3, "test/box/AP": box})
        for init, box in (("scratch", 0.4), ("distilled", 0.5))
    ]
    (section,) = compare_records([RunRecord.read(run) for run in runs]).sections
    assert {row["init"]: row["best"] for row in section["rows"]} == {"scratch": [], "distilled": ["box/AP"]}


def test_what_is_not_finite_is_not_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scores={"test/mask/AP": math.nan, "test/box/AP": 0.4}, costs={"cpu_ms": math.inf})
    (section,) = compare_records([RunRecord.read(run)]).sections
    (row,) = section["rows"]
    assert row["values"]["mask/AP"] == {"missing": "not defined on these images"}
    assert "cpu_ms" not in row["values"]


def test_frontiers_and_dominated_rows(section: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    names = {row["id"]: row["student"] for row in section["rows"]}
    frontiers = {cost: [names[row] for row in ids] for cost, ids in section["pareto"].items()}
    assert frontiers["cpu_ms"] == ["RS4D tiny", "MobileNet v4", "RS4D small"]
    assert frontiers["params"] == ["RS4D tiny", "RS4D small"]
    assert frontiers["macs"] == ["MobileNet v4", "RS4D small"]
    dominated = {name: [names[by] for by in row["dominated_by"]] for name, row in rows.items() if row["dominated_by"]}
    assert dominated == {"RS4D tiny · scratch": ["RS4D tiny"], "RepViT m1 · distilled": ["RS4D tiny"]}


def test_the_best_of_each_column(rows: dict[str, dict[str, Any]]) -> None:
    assert "gain" not in rows["RS4D tiny · distilled"]["best"], "there is only one gain"
    assert set(rows["RS4D small · distilled"]["best"]) >= {"mask/AP", "box/AP"}
    assert {"params", "cpu_ms"} <= set(rows["RS4D tiny · scratch"]["best"]) & set(rows["RS4D tiny · distilled"]["best"])
    assert "macs" in rows["MobileNet v4 · distilled"]["best"]
    teacher = rows["ViT b · teacher"]
    assert (teacher["role"], teacher["best"], teacher["dominated_by"]) == ("teacher", [], [])


def test_the_sentence(section: dict[str, Any]) -> None:
    # Latencies are 10, 10, 12, 15 and 20 ms, so the budget is 20 ms.
    assert section["sentence"] == (
        "Under 20 ms on the CPU, RS4D small · distilled has the highest mask AP, 40.0 %; "
        "the teacher ViT b reaches 90.0 % with 0.025 times the multiply-adds."
    )
