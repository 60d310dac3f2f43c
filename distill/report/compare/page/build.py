"""One HTML file from the content of compare.json: no library, no network."""

import base64
import hashlib
import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from distill.report.compare.page.images import embed

_PLACE = Path(__file__).parent
_STYLES = ("page.css", "controls.css", "table.css", "charts.css")
# In the order in which they use each other.
_SCRIPTS = (
    "dom.js", "models.js", "details.js", "table.js", "chart.js", "pareto.js", "curves.js", "classes.js", "pictures.js",
    "facts.js", "main.js",
)  # fmt: skip
_LARGEST = 1_450_000  # bytes of a page; mail programs and code hosts show files of this size
_LEAST = 150_000  # bytes that pictures get, however long the tables are


def page(content: dict) -> str:
    """The page of a comparison.

    Args:
        content: What compare.json holds. Paths of pictures start at the current folder; a picture that is not there
            is said to be missing.

    Returns:
        HTML that shows the content and holds it, as JSON, in the element `content`.
    """
    data = _json(content)
    style, script = _joined(_STYLES), _joined(_SCRIPTS)
    budget = max(_LEAST, _LARGEST - len(data) - len(style) - len(script))
    html = (_PLACE / "template.html").read_text(encoding="utf-8")
    # The policy lets nothing run but this script and nothing load but what lies in the file.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "style": style,
        "content": data,
        "pictures": _json(embed(list(_paths(content)), budget)),
        "script": script,
    }
    for name, text in parts.items():
        html = html.replace(f"<!-- {name} -->", text)  # no part can hold such a mark: JSON has no "<" here
    return html


def _joined(files: tuple[str, ...]) -> str:
    return "\n".join((_PLACE / name).read_text(encoding="utf-8") for name in files)


def _json(content: object) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _paths(content: dict) -> Iterator[str]:
    """The first image of every section, then the second: what has no room is left out from the end."""
    for images in zip_longest(*(section["pictures"] for section in content["sections"])):
        for image in images:
            if image is not None:
                yield from image["shared"].values()
                for shown in image["rows"].values():
                    yield from shown["parts"].values()
