"""A comparison as tables: for a terminal, as Markdown and as CSV; all read the content of compare.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.evaluation.units import counted
from distill.report.compare.columns import GAIN, text
from distill.report.compare.spread import known

_NONE = "-"
_FLAG = "(!)"
_LEGEND = (
    "± is the sample standard deviation over seeds, of a probe of one seed over draws of its labels; "
    "brackets hold the 95 % interval of a paired difference. "
    f"{_FLAG}: cannot be compared with the others of its column, a note says why."
)
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
    """The sections as Markdown: sentence, table, notes, and what is missing."""
    parts = ["# Comparison\n"]
    for section in content["sections"]:
        columns = _shown(section)
        header = ["student", "seeds", *(_heading(column) for column in columns)]
        lines = [header, ["---", *["---:"] * (len(header) - 1)]]
        for row in section["rows"]:
            cells = [f"**{cell(row, one)}**" if one["key"] in row["best"] else cell(row, one) for one in columns]
            lines.append([row["name"].replace("|", "\\|"), seeds(row, section), *cells])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts += [f"## {section['title']}, {section['subtitle']}\n", f"{section['sentence']}\n", f"{table}\n"]
        said = [note["text"] for note in notes(section)] + [f"missing: {reason}" for reason in reasons(section)]
        if said:
            parts.append("\n".join(f"- {text}" for text in said) + "\n")
    parts += [
        f"{_LEGEND}\n",
        f"{timing(content)}\n",
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


def timing(content: Json) -> str:
    """Where the times come from."""
    measured = content["measured"]
    if measured is None:
        return "Times: as each run measured them before it trained."
    machine = [measured["cpu"], counted(measured["threads"], "thread"), *measured["gpus"], f"torch {measured['torch']}"]
    return f"Times: all models in turns in one process, {counted(measured['rounds'], 'round')}, {', '.join(machine)}."


def seeds(row: Json, section: Json) -> str:
    """How many seeds have the main quality, and of how many."""
    scored, count = row["values"][section["quality"]].get("n", 0), len(row["seeds"])
    if not count:
        return _NONE
    return str(count) if scored in (0, count) else f"{scored} of {count}"


def cell(row: Json, column: Json) -> str:
    """A value as people see it: mean, spread over seeds and, of a gain, its interval; a mark if it is flagged."""
    value = row["values"][column["key"]]
    if not known(value):
        return _NONE
    signed = column["group"] == "gain"
    shown = text(column, value["mean"], signed)
    if value["sd"] is not None and column["group"] == "quality":
        shown += f" ± {text(column, value['sd'])}"
    if signed and value["low"] is not None:
        shown += f" ({text(column, value['low'], True)} to {text(column, value['high'], True)})"
    return f"{shown} {_FLAG}" if value["flag"] else shown


def _rich_table(section: Json, columns: Sequence[Json], title: str | None = None) -> Table:
    heading = None if title is None else Text(title, no_wrap=True, overflow="ignore")  # wider than some tables
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("student", overflow="fold")
    table.add_column("seeds", justify="right")
    for column in columns:
        table.add_column(Text(_heading(column)), justify="right", overflow="fold")
    for row in section["rows"]:
        cells = [Text(cell(row, column), style=_style(row, column)) for column in columns]
        dim = "dim" if row["dominated_by"] or row["role"] != "student" else ""
        table.add_row(Text(row["name"]), seeds(row, section), *cells, style=dim)
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
