"""What MkDocs calls while it builds the site: adds the generated pages, and checks the links of what was built."""

from pathlib import Path
from typing import Any

import links
import repository
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from reference import Undocumented, reference_pages

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages made from sources and from files of the repository, and lists them in the navigation."""
    written = {file.src_uri: file.content_string for file in files.documentation_pages()}
    try:
        made = reference_pages()
    except Undocumented as error:
        raise PluginError(str(error)) from error
    made |= {uri: (ROOT / name).read_text(encoding="utf-8") for uri, name in repository.SITE_PAGES.items()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for uri, text in repository.file_pages(written | made).items():
        files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    config.nav = _expanded(config.nav or [], [*written, *made])
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository become links to the pages that show them."""
    return repository.relinked(markdown, page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site with a broken link, or with anything that a browser would load from a network."""
    if problems := links.problems(Path(config.site_dir)):
        raise PluginError("\n".join(["the site has wrong links:", *problems]))


def _expanded(nav: list[Any], uris: list[str]) -> list[Any]:
    """The navigation with `{Title: folder/*}` replaced by the pages of the folder, its index first."""
    found: list[Any] = []
    for item in nav:
        ((title, value),) = item.items()
        if isinstance(value, list):
            found.append({title: _expanded(value, uris)})
        elif value.endswith("/*"):
            inside = sorted(uri for uri in uris if uri.startswith(value[:-1]))
            inside.sort(key=lambda uri: not uri.endswith("/index.md"))
            found += [{title: inside}] if inside else []
        else:
            found.append(item)
    return found
