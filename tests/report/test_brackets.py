"""Names with brackets, which rich takes for markup: shown as they are."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

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


@pytest.mark.parametrize("name", ["ship [large]", "ship [/large]"])
@pytest.mark.parametrize("tables", [of_classes, of_seeds, of_bench])
def test_names_with_brackets(tables: Callable[[str], list[object]], name: str) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(*tables(name))
    assert name in text.getvalue()
