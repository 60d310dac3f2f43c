"""The page of the command line: what each verb prints with `--help-all`, asked of the command line itself."""

import io
import os
from contextlib import redirect_stdout, suppress

from distill.cli import VERBS, main

# What stands below a verb.
_ACTIONS = {"data": ("prepare", "tile", "verify", "preview"), "recipes": ("list", "show", "copy")}
_OPENING = """# Command line

```sh
distill VERB --help-all  # what stands below for each verb; --help is shorter
```

| verb | does |
|---|---|
"""
_EXITS = """
Exit codes: 0; 1 if runs of a sweep failed; 2 after one line about bad input; 130 after Ctrl-C; 75 after SIGTERM.
"""


def pages() -> dict[str, str]:
    """The page, by its place in the site."""
    table = "".join(f"| [`{verb}`](#{verb}) | {text[0].upper()}{text[1:]}. |\n" for verb, (_, text) in VERBS.items())
    parts = [_section(verb) for verb in VERBS]
    return {"reference/commands.md": _OPENING + table + _EXITS + "".join(parts)}


def _section(verb: str) -> str:
    helps = [_help(verb), *(_help(verb, action) for action in _ACTIONS.get(verb, ()))]
    blocks = "".join(f"```text\n{text.strip()}\n```\n\n" for text in helps)
    return f"\n## {verb}\n\n{VERBS[verb][1][0].upper()}{VERBS[verb][1][1:]}.\n\n{blocks}"


def _help(*words: str) -> str:
    """What a verb prints, 100 columns wide."""
    printed, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with redirect_stdout(printed), suppress(SystemExit):
            main([*words, "--help-all"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    if not printed.getvalue().startswith("usage: "):
        raise RuntimeError(f"`distill {' '.join(words)} --help-all` prints no usage: {printed.getvalue()[:200]!r}")
    return printed.getvalue()
