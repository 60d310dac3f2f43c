"""Reference pages made from the sources, so that they cannot differ from them."""

from reference import api, commands, keys, metrics, recipes
from reference.undocumented import Undocumented

__all__ = ["Undocumented", "reference_pages"]


def reference_pages() -> dict[str, str]:
    """All pages, by their place in the site.

    Raises:
        Undocumented: Something on them has no description.
    """
    return recipes.pages() | keys.pages() | commands.pages() | api.pages() | metrics.pages()
