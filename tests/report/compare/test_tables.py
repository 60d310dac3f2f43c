"""Markdown, CSV, JSON and the terminal say the same."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from distill.errors import UserError
from distill.report.compare.comparison import Comparison, compare_records
from distill.report.run_record import RunRecord
from tests.run_folders import MACHINE, write_mixture, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    runs = write_mixture(tmp_path_factory.mktemp("mixture"))
    return compare_records([RunRecord.read(run) for run in runs], "distill compare runs/*", ["runs/data"])


def test_csv_has_the_numbers_of_the_json(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.csv())))
    pairs = [(section, row) for section in comparison.sections for row in section["rows"]]
    assert len(lines) == len(pairs)
    for line, (section, row) in zip(lines, pairs, strict=True):
        assert (line["name"], line["section"]) == (row["name"], section["title"])
        for key, value in row["values"].items():
            parts = {key: "mean", f"{key}_sd": "sd", f"{key}_n": "n"}
            parts |= {"gain_low": "low", "gain_high": "high"} if key == "gain" else {}
            for column, part in parts.items():
                assert line[column] == ("" if value.get(part) is None else str(value[part]))


def test_markdown_has_the_numbers_of_the_json(comparison: Comparison) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", comparison.markdown(), re.MULTILINE)
    assert len(blocks) == len(comparison.sections)
    for block, section in zip(blocks, comparison.sections, strict=True):
        lines = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in block.splitlines()]
        shown = [column for column in section["columns"] if column["shown"]]
        assert len(lines[0]) == 2 + len(shown)
        for line, row in zip(lines[2:], section["rows"], strict=True):
            assert line[0] == row["name"]
            for cell, column in zip(line[2:], shown, strict=True):
                value = row["values"][column["key"]]
                numbers = [float(number) for number in re.findall(r"[-+]?\d[\d.]*", cell)]
                parts = ("mean", "low", "high") if column["group"] == "gain" else ("mean", "sd")
                expected = [value[part] for part in parts if value.get(part) is not None]
                expected = expected[:1] if column["group"] == "cost" else expected
                assert numbers == pytest.approx(
                    [number / column["scale"] for number in expected], abs=0.51 * 10 ** -column["digits"]
                )


def on_a_terminal(comparison: Comparison) -> str:
    console = Console(record=True, width=200, color_system="standard", force_terminal=True, file=io.StringIO())
    for table in comparison.tables():
        console.print(table)
    return console.export_text(styles=True)


def test_flagged_values_are_red_on_the_terminal(tmp_path: Path) -> None:
    machines = {"RS4D tiny": MACHINE, "RS4D small": {**MACHINE, "threads": 1}}
    runs = [write_run(tmp_path / name, student=name, machine=machine) for name, machine in machines.items()]
    printed = on_a_terminal(compare_records([RunRecord.read(run) for run in runs]))
    assert len(re.findall(r"\x1b\[31m +10\.0 \(!\)", printed)) == 1
    assert "Instance segmentation on NWPU, test images, not scored yet" in printed


def test_seeds_without_scores_are_counted(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), seed=seed, scores={"test/mask/AP": 0.3}) for seed in range(2)]
    runs.append(write_run(tmp_path / "unfinished", seed=2, finished=False))
    said = compare_records([RunRecord.read(run) for run in runs]).markdown()
    assert "| RS4D tiny · scratch | 2 of 3 | 30.0 ± 0.0 |" in said


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", student="RS4D [bold]a|b", scores={"test/mask/AP": 0.3})
    comparison = compare_records([RunRecord.read(run)])
    assert "RS4D [bold]a|b" in on_a_terminal(comparison)
    assert "| RS4D [bold]a\\|b · scratch | 1 |" in comparison.markdown()


def test_the_terminal_shows_the_best_and_the_dominated(comparison: Comparison) -> None:
    printed = on_a_terminal(comparison)
    plain = re.sub(r"\x1b\[[\d;]*m", "", printed)
    assert "Instance segmentation on NWPU, 12 test images" in plain
    assert re.search(r"RS4D tiny · distilled +3 +30\.0 ± 0\.4", plain)
    assert "\x1b[2mRS4D tiny · scratch" in printed, "it is dominated"
    assert "\x1b[1m34.6 ± 0.8" in printed, "it is the best"


def test_files_are_written(comparison: Comparison, tmp_path: Path) -> None:
    comparison.write(tmp_path / "new" / "place")
    names = ["compare.csv", "compare.html", "compare.json", "compare.md"]
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == names
    assert json.loads((tmp_path / "new/place/compare.json").read_text()) == comparison.as_json()
    assert (tmp_path / "new/place/compare.md").read_text() == comparison.markdown()
    assert (tmp_path / "new/place/compare.html").read_text().lower().startswith("<!doctype html>")


def test_what_cannot_be_written_keeps_what_was_there(comparison: Comparison, tmp_path: Path) -> None:
    place = tmp_path / "taken"
    place.write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        comparison.write(place)
    assert place.read_text() == "mine"
