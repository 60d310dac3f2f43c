"""A comparison as tables: for a terminal, as Markdown and as CSV; all read the content of compare.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.report.compare.columns import GAIN, text
from distill.report.compare.spread import known

_NONE = "-"
_ROW_KEYS = ("name", "student", "init", "head", "teacher", "role", "image_size")

Json = Mapping[str, Any]


def rich_tables(section: Json) -> list[Table]:
    """The tables of a section, of quality and of costs, so that they fit a terminal.

    The best of each column is bold, dominated rows and teachers are dim, flagged values are red.
    """
    title = f"{section['title']}, {section['subtitle']}"
    quality = [column for column in _shown(section) if column["group"] != "cost"]
    costs = [column for column in _shown(section) if column["group"] == "cost"]
    return [_rich_table(section, quality, title)] + ([_rich_table(section, costs)] if costs else [])


def markdown(content: Json) -> str:
    """The sections as Markdown: sentence, table and notes."""
    parts = ["# Comparison\n"]
    for section in content["sections"]:
        columns = _shown(section)
        header = ["student", "seeds", *(_heading(column) for column in columns)]
        lines = [header, ["---", *["---:"] * (len(header) - 1)]]
        for row in section["rows"]:
            cells = [f"**{cell(row, one)}**" if one["key"] in row["best"] else cell(row, one) for one in columns]
            lines.append([row["name"], ", ".join(map(str, row["seeds"])) or _NONE, *cells])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts += [f"## {section['title']}, {section['subtitle']}\n", f"{section['sentence']}\n", f"{table}\n"]
        if said := notes(section):
            parts.append("\n".join(f"- {note['text']}" for note in said) + "\n")
    parts += [
        "± is the sample standard deviation over seeds; brackets hold the 95 % interval of a paired difference.\n",
        f"Made {content['made']} with distill {content['version']} by `{content['command']}`",
    ]
    return "\n".join(parts) + "\n"


def csv_text(content: Json) -> str:
    """One line for each row of all sections; numbers as compare.json has them, empty where there is none."""
    lines = [_csv_line(section, row) for section in content["sections"] for row in section["rows"]]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def notes(section: Json) -> list[dict[str, str]]:
    """Notes of a section and of its rows, which name the row; each text once, red ones first."""
    found = list(section["notes"])
    found += [{**note, "text": f"{row['name']}: {note['text']}"} for row in section["rows"] for note in row["notes"]]
    return sorted(found, key=lambda note: note["level"] != "red")


def reasons(section: Json) -> list[str]:
    """Why values of the main quality and gains over scratch are missing, and how to get them."""
    found = []
    for row in section["rows"]:
        expected = [section["quality"], *([GAIN] if row["init"] != "scratch" else [])]
        lacking = [why for key in expected if (why := row["values"].get(key, {}).get("missing"))]
        if lacking and row["role"] == "student":
            found.append(f"{row['name']}: {lacking[0]}")
    return found


def cell(row: Json, column: Json) -> str:
    """A value as people see it: mean, spread over seeds and, of a gain, its interval."""
    value = row["values"][column["key"]]
    if not known(value):
        return _NONE
    signed = column["group"] == "gain"
    shown = text(column, value["mean"], signed)
    if value["sd"] is not None and column["group"] == "quality":
        shown += f" ± {text(column, value['sd'])}"
    if signed and value["low"] is not None:
        shown += f" ({text(column, value['low'], True)} to {text(column, value['high'], True)})"
    return shown


def _rich_table(section: Json, columns: Sequence[Json], title: str | None = None) -> Table:
    heading = None if title is None else Text(title, no_wrap=True, overflow="ignore")  # wider than some tables
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("student", overflow="fold")
    table.add_column("seeds", justify="right")
    for column in columns:
        table.add_column(_heading(column), justify="right", overflow="fold")
    for row in section["rows"]:
        cells = [Text(cell(row, column), style=_style(row, column)) for column in columns]
        dim = "dim" if row["dominated_by"] or row["role"] == "teacher" else ""
        table.add_row(row["name"], str(len(row["seeds"])) if row["seeds"] else _NONE, *cells, style=dim)
    return table


def _csv_line(section: Json, row: Json) -> dict[str, Any]:
    line = {"section": section["title"], "task": section["task"], "data": section["data"]}
    line |= {key: row[key] for key in _ROW_KEYS}
    line |= {"seeds": " ".join(map(str, row["seeds"])), "runs": " ".join(row["runs"])}
    for column in section["columns"]:
        key, value = column["key"], row["values"][column["key"]]
        parts = ("mean", "sd", "n") if column["group"] != "gain" else ("mean", "sd", "n", "low", "high")
        line |= {key if part == "mean" else f"{key}_{part}": value.get(part) for part in parts}
    return line | {"dominated": bool(row["dominated_by"])}


def _shown(section: Json) -> list[Any]:
    return [column for column in section["columns"] if column["shown"]]


def _heading(column: Json) -> str:
    return f"{column['name']}, {column['unit']}" if column["unit"] else str(column["name"])


def _style(row: Json, column: Json) -> str:
    value = row["values"][column["key"]]
    if known(value) and value["flag"]:
        return "red"
    return "bold" if column["key"] in row["best"] else ""
