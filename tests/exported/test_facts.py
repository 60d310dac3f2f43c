"""What an exported file tells of itself survives the file; what is not ours, damaged or newer is one line."""

import json

import pytest

from distill.errors import UserError
from distill.exported.facts import ExportedFacts
from tests.exported.small_files import PLANES


def test_facts_survive_json() -> None:
    assert ExportedFacts.from_json(PLANES.to_json(), "a.onnx") == PLANES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "a.onnx is no file of `distill export`"),
        ("{", "the description inside a.onnx is damaged"),
        ("[]", "the description inside a.onnx is damaged"),
        ({"format_version": 3, "version": "9.0"}, "written by version 9.0 in a newer format .3; this version knows 2"),
        ({"kind": "cubes"}, "its kind is 'cubes'"),
        ({"size": {"tile": 3}}, "the description inside a.onnx is damaged"),
        ({"unheard": 1}, "the description inside a.onnx is damaged"),
    ],
)
def test_others_are_refused(change: str | dict[str, object] | None, said: str) -> None:
    text = json.dumps(json.loads(PLANES.to_json()) | change) if isinstance(change, dict) else change
    with pytest.raises(UserError, match=said):
        ExportedFacts.from_json(text, "a.onnx")
