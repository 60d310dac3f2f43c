"""Files of the repository that pages link to: each becomes a page of the site, so that the site stands alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from posixpath import normpath, relpath

ROOT = Path(__file__).parents[2]
SITE_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}  # pages that lie in the root
_LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?\)")
_LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".sh": "bash",
    ".cpp": "cpp",
    ".md": "md",
}


def file_pages(pages: Mapping[str, str]) -> dict[str, str]:
    """Pages that show files of the repository which other pages link to, by their place in the site.

    Args:
        pages: Markdown of all pages by their place.
    """
    linked = {
        normpath(f"{_folder(uri)}/{match[2]}")
        for uri, text in pages.items()
        if not uri.startswith("reference/")
        for match in _LINK.finditer(text)
    }
    return {f"files/{name}.md": _shown(name) for name in sorted(linked) if _is_shown(name)}


def relinked(markdown: str, uri: str) -> str:
    """A page whose links to files of the repository lead to their pages.

    Args:
        markdown: The page.
        uri: Its place in the site. Its links are relative to the file that it was read from, in docs/ or in the root.
    """
    folder = _folder(uri)

    def replace(match: re.Match[str]) -> str:
        name = normpath(f"{folder}/{match[2]}")
        inside = {source: page for page, source in SITE_PAGES.items()}.get(name)
        if inside is None and _is_shown(name):
            inside = f"files/{name}.md"
        if inside is None and folder == "." and name.startswith("docs/"):
            inside = name.removeprefix("docs/")
        if inside is None:
            return match[0]
        return f"{match[1]}{relpath(inside, str(Path(uri).parent))}{match[3] or ''})"

    generated = uri.startswith(("reference/", "files/"))
    return markdown if generated else _LINK.sub(replace, markdown)


def _folder(uri: str) -> str:
    """The folder of the repository that holds a page."""
    return "." if uri in SITE_PAGES else str(Path("docs", uri).parent)


def _is_shown(name: str) -> bool:
    return not name.startswith(("docs/", "..")) and name not in SITE_PAGES.values() and (ROOT / name).is_file()


def _shown(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    fence = "````" if "```" in text else "```"
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"# {Path(name).name}\n\n`{name}` of the repository.\n\n{fence}{language}\n{text}{fence}\n"
