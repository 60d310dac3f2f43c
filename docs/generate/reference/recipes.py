"""Pages of the recipes that come with the package: their files, and every key with its value."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.recipe.combinations import COMBINATIONS, command
from distill.recipe.compose import compose
from distill.recipe.find import shipped, summary
from distill.recipe.keys import as_text
from distill.recipe.signatures import purpose
from reference.keys import GROUPS, class_paths
from reference.tree import (
    Row,
    code,
    component_rows,
    first_sentence,
    prose,
    run_rows,
    table,
    trainer_rows,
)
from reference.undocumented import Undocumented

_INDEX = """# Recipes

```sh
distill recipes list            # this list
distill recipes show NAME       # one of them, or what several make together
distill recipes copy NAME       # as a file of your own
distill fit NAME [NAME ...]     # runs it; later ones go over earlier ones
```

"""


def pages() -> dict[str, str]:
    """The pages, by their place in the site.

    Raises:
        Undocumented: A recipe has no opening comment.
    """
    found = shipped()
    if missing := [name for name, path in found.items() if not summary(path)]:
        raise Undocumented([f"recipes/{name}.yaml" for name in missing])
    contents = {name: compose([name]).content for name in found}
    described = _descriptions(contents.values())
    pages = {f"reference/recipes/{_file(name)}": _page(name, found[name], contents[name], described) for name in found}
    index = table(
        ("recipe", "what it does"), [(f"[{name}]({_file(name)})", prose(summary(path))) for name, path in found.items()]
    )
    combined = table(("name", "is short for"), [(code(name), code(command(name))) for name in COMBINATIONS])
    return {"reference/recipes/index.md": f"{_INDEX}{index}\n## Combinations with a name\n\n{combined}"} | pages


def _file(name: str) -> str:
    return f"{name.replace('/', '-')}.md"


def _page(name: str, path: Path, content: dict[str, Any], described: Mapping[str, str]) -> str:
    """A recipe and its keys."""
    whole = _whole(content)
    cells = [
        (
            code(row.key),
            f"**{code(row.value)}**" if row.given else code(row.value),
            prose(first_sentence(row.description)),
        )
        for row in (_rows(content) if whole else _given("", content, described))
    ]
    what = (
        "Every key with the value that it has in a run. Bold: set by this recipe; others are defaults."
        if whole
        else "The keys that this recipe sets. It needs others beside it, as its comment says. [Keys](../keys/index.md) "
        "describes those whose meaning depends on the class."
    )
    return (
        f"# {name}\n\n{prose(summary(path))}.\n\n"
        f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n\n"
        f"## Keys\n\n{what}\n\n" + table(("key", "value", "what it does"), cells)
    )


def _whole(content: dict[str, Any]) -> bool:
    """Whether a recipe can be run as it is."""
    return all("class_path" in content.get(group, {}) for group in ("model", "data"))


def _rows(content: dict[str, Any]) -> Iterator[Row]:
    """Every key of a whole recipe."""
    for group in ("model", "data"):
        path = content[group]["class_path"]
        yield Row(group, "class", path, True, purpose(path))
        yield from component_rows(group, path, content[group].get("init_args") or {})
    yield from trainer_rows(content.get("trainer") or {})
    yield from run_rows(content.get("run") or {})
    yield Row("seed_everything", "", as_text(content.get("seed_everything", 0)), "seed_everything" in content, "")


def _descriptions(contents: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What keys do, of those that mean the same in every class of their group."""
    found: dict[str, set[str]] = {}
    rows = [row for content in contents for row in trainer_rows(content.get("trainer") or {})]
    for _, group, classes in GROUPS.values():
        rows += [row for path in class_paths(classes) for row in component_rows(group, path, {})]
    for row in rows:
        found.setdefault(row.key, set()).add(row.description)
    return {key: descriptions.pop() for key, descriptions in found.items() if len(descriptions) == 1}


def _given(key: str, content: dict[str, Any], described: Mapping[str, str]) -> Iterator[Row]:
    """The keys that a part of a recipe sets."""
    path = content.get("class_path")
    if isinstance(path, str):
        yield Row(key, "class", path, True, purpose(path))
        yield from (row for row in component_rows(key, path, content.get("init_args") or {}) if row.given)
        return
    for name, value in (content.get("init_args") or content).items():
        dotted = f"{key}.{name}".lstrip(".")
        if isinstance(value, dict) and (
            not key or "class_path" in value or "init_args" in value or any(f"{dotted}.{k}" in described for k in value)
        ):
            yield from _given(dotted, value, described)
        else:
            yield Row(dotted, "", as_text(value), True, described.get(dotted, ""))
