"""Numbers of a recipe that no head can have: each is one line that names the key."""

from typing import Any

import pytest

from distill.contracts import Component
from distill.errors import UserError
from heads import DenseMasks, FPNDecoder, LALEDecoder, SegHead, UPerNet


@pytest.mark.parametrize(
    ("head", "key", "value", "allowed"),
    [
        (DenseMasks, "threshold", 50.0, r"in \[0, 1\]"),
        (DenseMasks, "threshold", float("nan"), r"in \[0, 1\]"),
        (DenseMasks, "min_area", -1, "0 or more"),
        (LALEDecoder, "channels", 0, "1 or more"),
        (LALEDecoder, "dropout", 10.0, r"in \[0, 1\]"),
        (SegHead, "width", 0, "1 or more"),
        (SegHead, "expand", 0, "1 or more"),
        (SegHead, "depth", -1, "0 or more"),
        (SegHead, "final_expand", -4, "0 or more"),
        (SegHead, "norm_eps", -1.0, "0 or more"),
        (SegHead, "dropout", -0.1, r"in \[0, 1\]"),
        (UPerNet, "channels", 0, "1 or more"),
        (FPNDecoder, "channels", 0, "1 or more"),
        (FPNDecoder, "segmentation_channels", 0, "1 or more"),
        (FPNDecoder, "dropout", 20.0, r"in \[0, 1\]"),
    ],
)
def test_numbers_out_of_range(maps: Any, head: type[Component], key: str, value: float, allowed: str) -> None:
    build: Any = head
    with pytest.raises(UserError, match=rf"^model\.head\.{key} is {value}; it must be {allowed}$"):
        build(maps([8, 16], [4, 8]), ["ship"], **{key: value})
