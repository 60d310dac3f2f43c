"""Checks the entries of a cache: a digest of the teacher's view, and a checksum of the stored bytes.

Axes: B batch, n entries, S side of a view in pixels.
"""

import hashlib
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from distill.targets.rounding import Encoded

TARGET, SCALE, VIEW, CHECKSUM = "target", "scale", "view", "crc"  # tensors of a shard; the first two by feature


def view_digest(image: Tensor) -> int:
    """64 bits that identify the pixels of a view.

    Args:
        image: (3, S, S) in [0, 1], made of 8-bit levels, which are what counts.
    """
    levels = (image * 255).round().to(torch.uint8)
    digest = hashlib.blake2b(levels.contiguous().numpy().data, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def tensors_of(encoded: Mapping[str, Encoded], views: Tensor) -> dict[str, Tensor]:
    """The tensors of a shard, all of n entries.

    Args:
        encoded: By feature, as `distill.targets.rounding.encode` returns it.
        views: (n,) int64, digests of the views.
    """
    tensors: dict[str, Tensor] = {}
    for feature, one in sorted(encoded.items()):
        tensors[f"{TARGET}.{feature}"] = one["values"].contiguous()
        if "scale" in one:
            tensors[f"{SCALE}.{feature}"] = one["scale"].contiguous()
    tensors[VIEW] = views
    tensors[CHECKSUM] = torch.tensor([checksum(entry_of(tensors, number)) for number in range(len(views))])
    return tensors


def entry_of(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One entry without its checksum."""
    return {name: tensor[number] for name, tensor in tensors.items() if name != CHECKSUM}


def checksum(entry: Mapping[str, Tensor]) -> int:
    """CRC-32 over all stored bytes of an entry, in the order of names."""
    value = 0
    for _, tensor in sorted(entry.items()):
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy().data, value)
    return value


def encoded_of(entry: Mapping[str, Tensor], feature: str) -> Encoded:
    """The tensors of an entry for `distill.targets.rounding.decode`."""
    scale = {"scale": entry[f"{SCALE}.{feature}"]} if f"{SCALE}.{feature}" in entry else {}
    return {"values": entry[f"{TARGET}.{feature}"], **scale}
