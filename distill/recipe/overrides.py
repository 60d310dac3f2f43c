"""Rewrites overrides on the command line that the parser would misread, or that are short forms."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.errors import UserError
from distill.recipe.find import RUN_STUDENT

_NESTED = re.compile(r"--(?P<key>\w+(\.\w+){2,})(=(?P<value>.*))?", re.DOTALL)
_STUDENT = re.compile(r"--(?P<key>model\.(init_args\.)?student)(=(?P<value>.*))?", re.DOTALL)
_CLASS = re.compile(r"(\w+\.)*[A-Z]\w*")
_NULLS = ("null", "~")


def expand(words: Sequence[str]) -> list[str]:
    """The words as the parser wants them: classes before arguments, nulls kept, files of students written out.

    Args:
        words: What follows `distill`.

    Raises:
        UserError: A student's file that does not exist, or does not say which student it holds.
    """
    return keep_nulls(write_out_students(classes_first(words)))


def classes_first(words: Sequence[str]) -> list[str]:
    """The words, with `--data.root x --data=distill.data.NWPU` in the order in which the class gets its arguments.

    At a class the parser drops what it has of another one, and what was given before there was any.

    Args:
        words: What follows `distill`.
    """
    pairs: list[list[str]] = []
    for word in words:
        value = bool(pairs) and len(pairs[-1]) == 1 and "=" not in pairs[-1][0] and pairs[-1][0].startswith("--")
        if value and not word.startswith("--"):
            pairs[-1].append(word)
        else:
            pairs.append([word])
    ordered: list[list[str]] = []
    for pair in pairs:
        key, _, value_text = "=".join(pair).partition("=")
        path = f"{_plain(key)}."
        arguments = [one for one in ordered if _plain(one[0]).startswith(path)] if is_class(value_text) else []
        ordered = [one for one in ordered if one not in arguments] + [pair, *arguments]
    return [word for pair in ordered for word in pair]


def is_class(value: str) -> bool:
    """Whether a value reads as the path of a class."""
    return _CLASS.fullmatch(value) is not None


def keep_nulls(words: Sequence[str]) -> list[str]:
    """The words, with `--model.student.checkpoint null` written as a piece of YAML in the same place.

    jsonargparse reads the value of a nested key once per level, and from the second on it reads the text "None".

    Args:
        words: What follows `distill`.
    """
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        found = _NESTED.fullmatch(word)
        separate = found is not None and found["value"] is None and rest[:1] != [] and rest[0] in _NULLS
        if found is not None and (separate or found["value"] in _NULLS):
            kept.append(f"--config={json.dumps({found['key']: None})}")
            rest = rest[1:] if separate else rest
        else:
            kept.append(word)
    return kept


def write_out_students(words: Sequence[str]) -> list[str]:
    """The words, with `--model.student runs/NAME/student.safetensors` as the class and arguments that the file names.

    Arguments that do not belong to the architecture, such as `frozen_layers`, stay as the recipe has them.

    Args:
        words: What follows `distill`.

    Raises:
        UserError: The file does not exist, or does not say which student it holds.
    """
    written: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        found = _STUDENT.fullmatch(word)
        if found is not None:
            value = found["value"] if found["value"] is not None else next(iter(rest), "")
            if (path := _weights(value)) is not None:
                written.append(f"--config={json.dumps({found['key']: student_of(path)})}")
                rest = rest if found["value"] is not None else rest[1:]
                continue
        written.append(word)
    return written


def student_of(path: Path) -> dict[str, Any]:
    """The student that a `student.safetensors` holds, as a recipe writes it.

    Raises:
        UserError: The file does not exist, or does not say which student it holds.
    """
    if not path.is_file():
        raise UserError(f"model.student: there is no file {path}; pass the student.safetensors of a run, or a class")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.student: {path} cannot be read ({error}); copy or download it again") from error
    # Only our own package: a file must not choose which code is imported.
    if not metadata.get("class", "").startswith("students.") or "init_args" not in metadata:
        raise UserError(
            f"model.student: {path} does not say which student it holds; give the class, and the file as "
            "--model.student.checkpoint"
        )
    arguments = json.loads(metadata["init_args"])
    return {"class_path": metadata["class"], "init_args": arguments | {"checkpoint": str(path)}}


def _plain(key: str) -> str:
    """A key with its value or without, as one types it."""
    return key.replace(".init_args", "")


def _weights(value: str) -> Path | None:
    """The file of weights that a value names: the file, or the run folder that holds it."""
    path = Path(value)
    if path.suffix == ".safetensors":
        return path
    weights = path / RUN_STUDENT
    return weights if value and weights.is_file() else None
