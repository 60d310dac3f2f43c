"""Reads what W&B writes without a network."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from wandb.proto import wandb_internal_pb2 as pb


class Failing(pl.Callback):
    """Ends a fit with an error in its second step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            raise ConnectionAbortedError


@dataclass
class Written:
    """One offline file."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


def records(path: Path) -> Iterator[Any]:
    """The records of a file: blocks of 32 KiB, in them pieces of crc32, length, type (whole, first, middle, last)."""
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield pb.Record.FromString(parts)
            parts = b""


def key_of(item: Any) -> str:
    return ".".join(item.nested_key) or item.key


def read(path: Path) -> Written:
    found = Written()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.id, found.name, found.group, found.job_type = (
                run.run_id,
                run.display_name,
                run.run_group,
                run.job_type,
            )
            found.tags = list(run.tags)
            found.config |= {key_of(item): json.loads(item.value_json) for item in run.config.update}
        elif kind == "config":
            found.config |= {key_of(item): json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            found.history.append({key_of(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            found.summary |= {key_of(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def written(folder: Path) -> list[Written]:
    """What the run folder holds for W&B, in the order of starts; another process ends the files."""
    paths = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    for _ in range(50):
        found = [read(path) for path in paths]
        if all(run.exit_code is not None for run in found):
            break
        time.sleep(0.1)
    return found
