"""Links of a built site: all lead to files and anchors that are there, and a browser loads nothing from elsewhere."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}  # attributes, by element
_METADATA = {"canonical", "prev", "next", "alternate", "edit"}  # relations of `link` that load nothing


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []  # address, and whether the browser loads it
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects ids, and addresses of links."""
        given = dict(attrs)
        if name := given.get("id") or (given.get("name") if tag == "a" else None):
            self.anchors.add(name)
        if tag == "a" and given.get("href"):
            self.links.append((str(given["href"]), False))
        elif (address := given.get(_LOADED.get(tag, ""))) and given.get("rel") not in _METADATA:
            self.links.append((address, True))


@cache
def _page(path: Path) -> _Page:
    return _Page(path)


def problems(site: Path) -> list[str]:
    """One line for each wrong link, in the order of the pages.

    Args:
        site: The folder that MkDocs wrote.
    """
    found = []
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":  # its addresses start at the root of the host
            continue
        for address, loaded in _page(path).links:
            if (problem := _problem(path, address, loaded)) is not None:
                found.append(f"{path.relative_to(site)}: {address}: {problem}")
    return found


def _problem(path: Path, address: str, loaded: bool) -> str | None:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return "loaded from a network" if loaded and parts.scheme != "data" else None
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    if not anchor or anchor.startswith("__") or target.suffix != ".html" or anchor in _page(target).anchors:
        return None
    return "there is no such anchor"
