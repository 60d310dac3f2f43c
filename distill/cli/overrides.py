"""Overrides on the command line that the parser would misread."""

import json
import re
from collections.abc import Sequence

_NESTED = re.compile(r"--(?P<key>\w+(\.\w+){2,})(=(?P<value>.*))?", re.DOTALL)
_NULLS = ("null", "~")


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
