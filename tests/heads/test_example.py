"""The decoder that docs/heads.md shows is a component: found in a package, built from `smoke_args`, and trained."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.discovery import classes_in
from distill.errors import UserError

DOCS = Path(__file__).parents[2] / "docs" / "heads.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class, in a package of the user's own."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert code.count("\n") < 60
    (tmp_path / "own_heads").mkdir()
    (tmp_path / "own_heads" / "__init__.py").touch()
    (tmp_path / "own_heads" / "linear_decoder.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert classes_in("own_heads", "HeadBase", "DecoderBase") == {"LinearDecoder": "own_heads.linear_decoder"}
    from own_heads.linear_decoder import LinearDecoder  # type: ignore[import-not-found]

    return LinearDecoder


def test_the_example_decodes_and_trains(example: Any, maps: Any) -> None:
    decoder = example(maps([8, 16], [8, 16]), ["water", "grass"], **example.smoke_args())
    logits = decoder([torch.randn(2, 8, 4, 6), torch.randn(2, 16, 2, 3)])
    assert decoder.stride == 16
    assert logits.shape == (2, 2, 2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())
    with pytest.raises(UserError, match="at least one class"):
        example(maps([8], [8]), [])
