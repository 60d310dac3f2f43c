"""Names with brackets and colons, which rich takes for markup and emojis: shown as they are."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from distill.cli.console import table_console
from distill.phases import line_console, phase
from distill.report.bench import Bench, Count, Timing
from distill.report.class_tables import class_table
from distill.report.compare.seed_table import SeedTable


def of_classes(name: str) -> list[object]:
    return [class_table({name: ["1"]}, ["AP"])]


def of_seeds(name: str) -> list[object]:
    return list(SeedTable({f"test/mask/AP/{name}": {"mean": 0.1, "std": 0.0, "runs": 2}}, [0, 1], []).shown())


def of_bench(name: str) -> list[object]:
    timings, counts = [Timing(name, "PyTorch", "float32", 1, 1.0, {}, None)], [Count(name, 1.0, None, {"a": 1})]
    return list(Bench("cpu", 64, timings, counts, 5, 0.1, 1.0, {}).rich_tables())


NAMES = pytest.mark.parametrize("name", ["ship [large]", "ship [/large]", "a:ship:"])


@NAMES
@pytest.mark.parametrize("tables", [of_classes, of_seeds, of_bench])
def test_names_with_brackets(tables: Callable[[str], list[object]], name: str) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(*tables(name))
    assert name in text.getvalue()


@NAMES
def test_lines_and_tables_of_verbs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("image", box=None)
    table.add_row(name)
    table_console().print(table)
    line_console().print(name)
    with phase(name):
        pass
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["image", name, name, name]


@NAMES
def test_a_phase_on_a_terminal(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, a terminal
    monkeypatch.setenv("COLUMNS", "80")
    with phase(name):
        pass
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{name}: 0.0 s")
