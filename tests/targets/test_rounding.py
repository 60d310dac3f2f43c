import pytest
import torch

from distill.errors import UserError
from distill.targets.rounding import DTYPES, decode, encode, require_dtype, rounded

ERRORS = {"float32": 0.0, "float16": 4e-4, "bfloat16": 3e-3, "int8": 1.2e-2}  # relative L2 of Gaussian maps


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_keeps_maps_within_the_precision(dtype: str) -> None:
    maps = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    maps *= torch.logspace(-4, 2, 8)[:, None, None]
    back = rounded(maps, dtype)
    assert back.dtype == torch.float32
    assert float((back - maps).norm() / maps.norm()) <= ERRORS[dtype]
    by_channel = (back - maps).square().mean(dim=(2, 3)).sqrt() / maps.square().mean(dim=(2, 3)).sqrt()
    assert float(by_channel.max()) <= ERRORS[dtype], "small channels keep their precision, too"
    assert torch.equal(back, rounded(maps.double(), dtype) if dtype == "float32" else back)
    assert encode(maps, dtype)["values"].dtype == DTYPES[dtype]


def test_each_image_is_rounded_on_its_own() -> None:
    maps = torch.randn(4, 3, 5, 5)
    for dtype in DTYPES:
        together = rounded(maps, dtype)
        assert all(torch.equal(together[i : i + 1], rounded(maps[i : i + 1], dtype)) for i in range(4))


def test_extreme_maps() -> None:
    zero = torch.zeros(1, 2, 3, 3)
    assert all(torch.equal(rounded(zero, dtype), zero) for dtype in DTYPES)
    assert float(rounded(torch.full((1, 1, 1, 1), -1e6), "float16")) == -65504
    stored = encode(torch.tensor([[[[-2.0, 1.0]]]]), "int8")
    assert stored["values"].tolist() == [[[[-127, 64]]]]
    assert decode(stored)[0, 0, 0, 0] == -2.0


def test_an_unknown_precision() -> None:
    with pytest.raises(UserError, match=r"model\.target_dtype.*int4.*valid names are float32"):
        require_dtype("int4")
