"""A comparison as tables: for a terminal, as Markdown and as CSV; all read the content of compare.json."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.report.compare.columns import text
from distill.report.compare.spread import known

_NONE = "–"
_TERMINAL_QUALITY = 2  # columns of quality on a terminal, which is narrow
_ROW_KEYS = ("name", "student", "init", "head", "teacher", "role", "image_size")

Json = Mapping[str, Any]


def rich_table(section: Json) -> Table:
    """The table of a section: the best of each column bold, dominated rows dim, flagged values red."""
    columns = _shown(section)
    quality = [column for column in columns if column["group"] == "quality"][_TERMINAL_QUALITY:]
    columns = [column for column in columns if column not in quality]
    table = Table(title=f"{section['title']}, {section['subtitle']}", box=None, pad_edge=False, header_style="bold")
    table.title_justify = "left"
    table.add_column("student", overflow="fold", min_width=12)
    table.add_column("seeds", justify="right")
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=False)
    for row in section["rows"]:
        cells = [Text(cell(row, column), style=_style(row, column)) for column in columns]
        dim = "dim" if row["dominated_by"] or row["role"] == "teacher" else ""
        table.add_row(row["name"], str(len(row["seeds"])) if row["seeds"] else _NONE, *cells, style=dim)
    return table


def markdown(content: Json) -> str:
    """The sections as Markdown: sentence, table and notes."""
    parts = ["# Comparison\n", f"Made {content['made']} by `{content['command']}`, distill {content['version']}.\n"]
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
    parts.append("± is the sample standard deviation over seeds; brackets hold the 95 % interval of a paired difference.")
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
    keys = [section["quality"], *(one["key"] for one in section["columns"] if one["group"] == "gain")]
    found = []
    for row in section["rows"]:
        lacking = [why for key in keys if (why := row["values"][key].get("missing"))]
        if lacking and row["role"] == "student" and row["init"] != "scratch":
            found.append(f"{row['name']}: {lacking[0]}")
        elif lacking and row["role"] == "student" and not known(row["values"][section["quality"]]):
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
