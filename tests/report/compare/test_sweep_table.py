"""The table of a sweep, whose intervals are those of SciPy."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from distill.report.compare.sweep_table import SweepTable, sweep_table
from distill.report.run_record import RunRecord
from tests.run_folders import write_run

SCORES = {"noise=0": {0: 0.60, 1: 0.63, 2: 0.58}, "noise=0.2": {0: 0.66, 1: 0.67, 2: 0.65, 3: 0.9}}
PROBE = "val/probe/land/linear"


@pytest.fixture
def table(tmp_path: Path) -> SweepTable:
    cells = {
        cell: [
            RunRecord.read(
                write_run(
                    tmp_path / cell / f"seed{seed}",
                    "distillation",
                    seed=seed,
                    scores={"val/l1_ratio": score, PROBE: 1 - score},
                )
            )
            for seed, score in scores.items()
        ]
        for cell, scores in SCORES.items()
    }
    return sweep_table(cells)


def test_means_and_paired_differences_have_the_t_interval_of_scipy(table: SweepTable) -> None:
    assert [row["cell"] for row in table.rows] == list(SCORES)
    assert {column.key for column in table.columns} == {"l1_ratio", "probe/land/linear"}
    assert "l1_ratio" not in table.rows[0]["difference"]
    for row in table.rows:
        numbers = list(SCORES[row["cell"]].values())
        found = row["values"]["l1_ratio"]
        low, high = stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))
        assert (found["mean"], found["low"], found["high"]) == pytest.approx((np.mean(numbers), low, high), rel=1e-5)
    first, second = SCORES.values()
    differences = [second[seed] - first[seed] for seed in first]  # seed 3 has no partner
    low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    found = table.rows[1]["difference"]["l1_ratio"]
    assert (found["n"], found["low"], found["high"]) == (3, pytest.approx(low, rel=1e-4), pytest.approx(high, rel=1e-4))


def test_the_best_mean_is_the_lowest_ratio_and_the_table_has_a_row_for_each_cell(table: SweepTable) -> None:
    assert table.best(table.columns[0]) == "noise=0"
    assert table.as_table().row_count == 2
    assert list(table.as_table().columns[2].cells)[1].plain == "0.7200 ± 0.1914"  # type: ignore[union-attr]


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path / "run", "distillation", scores={"val/l1_ratio": 0.5}))
    row = sweep_table({"a": [record]}).rows[0]
    assert (row["values"]["l1_ratio"]["mean"], row["values"]["l1_ratio"]["low"]) == (0.5, None)
