"""Reads files with clear errors, and writes them in one step: a crash or a full disk leaves the previous content."""

import csv
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from safetensors import SafetensorError

from distill.errors import UserError

try:
    from yaml import CSafeLoader as _YAMLLoader
except ImportError:  # PyYAML that was built without libyaml
    from yaml import SafeLoader as _YAMLLoader


class _Loader(_YAMLLoader):
    pass


class _PreciseLoader(yaml.SafeLoader):
    """In whose words errors are."""


class _Dumper(yaml.SafeDumper):
    pass


for _kind in (_Loader, _PreciseLoader, _Dumper):
    # 1e-3 is a number to the parser of recipes, as in YAML 1.2, and text to PyYAML.
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then moves the result into place in one step.

    The content is on the disk before it gets its name, so that neither a crash nor a power failure leaves half a file.

    Raises:
        UserError: The place cannot be written, or the disk is full; what was there before is kept.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(descriptor)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o666 & ~_umask())
            _move(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own words
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(
            f"{path} cannot be written ({reason}); free space or permit writing there, or name another place"
        ) from error


def move_into_place(finished: Path, path: Path) -> None:
    """Syncs a finished file, then renames it, replacing what had that name.

    Args:
        finished: The file, on the same disk.
        path: Its new name.

    Raises:
        UserError: The place cannot be written.
    """
    try:
        _move(finished, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); permit writing there") from error


def write_json(path: Path, content: object) -> None:
    """Writes JSON in one step; numbers that are not finite, which JSON cannot hold, become null."""
    if isinstance(content, dict):
        content = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Writes text in one step."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """A mapping that `write_json` wrote; numbers that are not finite, which other programs write, are None.

    Raises:
        UserError: The file holds no mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON: {error}; remove it, then fit or score the run again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping; remove it, then fit or score the run again")
    return content


def parse_yaml(text: str) -> Any:
    """Parses YAML of standard types with libyaml, ten times as fast as PyYAML's own reader.

    Raises:
        yaml.YAMLError: The text is no YAML, or a mapping has a key twice, of which PyYAML would take the last; in the
            words of PyYAML's reader, which quotes the place.
    """
    try:
        return _parsed(text, _Loader)
    except yaml.YAMLError:
        return _parsed(text, _PreciseLoader)


def dump_yaml(value: object, **layout: Any) -> str:
    """A value as YAML that `parse_yaml` and the parser of recipes read as the same: the text "1e-3" is in quotes.

    Args:
        value: Of standard types.
        **layout: Further arguments of `yaml.dump`.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **layout))


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a table, its header first.

    Raises:
        UserError: The file is no table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is no valid CSV: {error}; remove it, then fit or score the run again") from error


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(text: str, loader_class: Any) -> Any:
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_single_keys(node, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _require_single_keys(node: Any, seen: set[int]) -> None:
    """Refuses a key that a mapping at any depth has twice; `seen` has the nodes that were looked at, by their ids."""
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else [(None, item) for item in node.value]:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":  # YAML's merge key may stand several times
            name = key.tag, key.value
            if name in lines:
                given = f"{key.value!r} is in line {lines[name]}"
                raise yaml.constructor.ConstructorError(given, None, "and again", key.start_mark)
            lines[name] = key.start_mark.line + 1
        _require_single_keys(value, seen)


def _move(finished: Path, path: Path) -> None:
    _sync(finished)
    finished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
