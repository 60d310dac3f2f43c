"""Where the images of a tar lie in it. Headers are read once, then kept in a file.

The file lies beside the tar as `NAME.tar.index`, or, where that place cannot be written, in the user's cache folder.
"""

import hashlib
import logging
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill.data.images import SUFFIXES, is_leftover
from distill.data.names import Names
from distill.errors import UserError
from distill.files import write_atomically
from distill.phases import phase

logger = logging.getLogger(__name__)

_FORMAT = "1"
_BLOCK = 512  # bytes; a tar ends with a block of zeros
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class TarIndex:
    """The images of a tar, in the order of their names.

    Args:
        names: Inside the tar.
        offsets: Where the bytes of each begin.
        sizes: How many bytes each has.
    """

    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


def tar_indices(tars: Sequence[Path]) -> list[TarIndex]:
    """The index of each tar: the kept one, or a new one where the tar has changed, or none is kept.

    An interrupted indexing goes on with the tars that are left.

    Raises:
        UserError: A tar is compressed, truncated or damaged.
    """
    kept = {tar: index for tar in tars if (index := _kept(tar)) is not None}
    missing = [tar for tar in tars if tar not in kept]
    if missing:
        with phase(f"indexing {len(missing)} tar{'s' * (len(missing) > 1)}", len(missing)) as advance:
            for tar in missing:
                kept[tar] = scan(tar)
                _keep(tar, kept[tar])
                advance(1)
    return [kept[tar] for tar in tars]


def scan(tar: Path) -> TarIndex:
    """Reads all headers of a tar.

    Raises:
        UserError: It is compressed, truncated or damaged.
    """
    found: list[tuple[str, int, int]] = []
    try:
        with tar.open("rb") as file:
            head = file.read(8)
            for magic, kind in _COMPRESSED.items():
                if head.startswith(magic):
                    raise UserError(
                        f"tar {str(tar)!r} is compressed ({kind}), so its files cannot be read at random; "
                        "decompress it first"
                    )
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # every header so far
                    if member.isreg() and not member.issparse() and _is_image(member.name):
                        found.append((member.name.removeprefix("./"), member.offset_data, member.size))
                file.seek(archive.offset)
                if file.read(_BLOCK) != bytes(_BLOCK):
                    raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"tar {str(tar)!r} is truncated or damaged ({reason}); fetch it again") from error
    found.sort()
    numbers = np.array([row[1:] for row in found], np.int64).reshape(-1, 2)
    return TarIndex(Names.of(row[0] for row in found), numbers[:, 0].copy(), numbers[:, 1].copy())


def _is_image(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return parts[-1].lower().endswith(SUFFIXES) and not any(map(is_leftover, parts))


def _places(tar: Path) -> tuple[Path, Path]:
    """Where its index may lie."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.blake2b(os.fsencode(tar.absolute()), digest_size=16).hexdigest()
    return tar.with_name(f"{tar.name}.index"), cache / "distill" / "tars" / f"{digest}.index"


def _facts(tar: Path) -> dict[str, str]:
    """By which a changed tar is told."""
    stat = tar.stat()
    return {"format": _FORMAT, "size": str(stat.st_size), "mtime_ns": str(stat.st_mtime_ns)}


def _kept(tar: Path) -> TarIndex | None:
    for place in _places(tar):
        if not place.is_file():
            continue
        try:
            with safe_open(place, framework="numpy") as file:
                if file.metadata() == _facts(tar):
                    names = Names(file.get_tensor("letters"), file.get_tensor("ends"))
                    return TarIndex(names, file.get_tensor("offsets"), file.get_tensor("sizes"))
        except (SafetensorError, OSError):
            continue  # another program's file, or one that cannot be read: it is made again
    return None


def _keep(tar: Path, index: TarIndex) -> None:
    content: dict[str, NDArray[Any]] = {
        **{"letters": index.names.letters, "ends": index.names.ends},
        **{"offsets": index.offsets, "sizes": index.sizes},
    }
    written = save(content, _facts(tar))
    for place in _places(tar):
        try:
            write_atomically(place, lambda temporary: temporary.write_bytes(written))
            return
        except UserError as error:
            reason = error
    logger.warning("the index of %r is made again at each start: %s", str(tar), reason)
