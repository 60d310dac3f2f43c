"""Pages of keys: what each class that a recipe can name takes, with type, default and description."""

from collections.abc import Sequence

from distill.discovery import names_in
from distill.recipe.check import TRAINER_DEFAULTS
from distill.recipe.signatures import purpose
from reference.tree import Row, code, component_rows, prose, run_rows, table, trainer_rows
from reference.undocumented import Undocumented

GROUPS = {  # title, what a recipe calls the group, and a package with the classes, or their names
    "tasks": ("Tasks", "model", tuple(f"distill.{name}" for name in names_in("distill") if name.endswith("Module"))),
    "students": ("Students", "model.student", "students"),
    "teachers": ("Teachers", "model.teacher", "teachers"),
    "heads": ("Heads and decoders", "model.head", "heads"),
    "data": ("Data modules", "data", "distill.data"),
    "probes": ("Probes", "model.probes", ("distill.ObjectProbe", "distill.PatchProbe", "distill.ImageProbe")),
    "callbacks": ("Callbacks", "trainer.callbacks", ("distill.EMA",)),
}
_HEADER = ("key", "type", "default", "what it does")
_INDEX = """# Keys

```sh
distill fit RECIPE --help-all             # the keys of a recipe, with its values
distill fit RECIPE --model.optim.lr 1e-3  # sets one
```

A recipe has the groups `model`, `data`, `trainer` and `run`, and `seed_everything`. A group that names a class
(`class_path`) takes the keys of that class. On the command line a key is written with dots and without `init_args`;
in a file:

```yaml
data:
  class_path: distill.data.ImageFolder
  init_args: {root: images, image_size: 512}
```

"""


def pages() -> dict[str, str]:
    """The pages, by their place in the site.

    Raises:
        Undocumented: A key has no description.
    """
    found = {"reference/keys/index.md": _index(), "reference/keys/run.md": _run_page()}
    missing: list[str] = []
    for name, (title, group, classes) in GROUPS.items():
        text = f"# {title}\n\nClasses for `{group}`.\n"
        for path in class_paths(classes):
            rows = list(component_rows("", path, {}))
            missing += [f"{path}: {row.key}" for row in rows if not row.description]
            missing += [] if purpose(path) else [path]
            text += f"\n## {path}\n\n{prose(purpose(path))}\n\n{_table(rows) if rows else 'It takes no keys.'}"
        found[f"reference/keys/{name}.md"] = text
    if missing:
        raise Undocumented(missing)
    return found


def class_paths(classes: str | tuple[str, ...]) -> tuple[str, ...]:
    """Paths of classes as recipes name them, of a package those that it offers."""
    if isinstance(classes, tuple):
        return classes
    return tuple(f"{classes}.{name}" for name in sorted(names_in(classes)) if name[0].isupper())


def _index() -> str:
    rows = [(f"[{title}]({name}.md)", code(group)) for name, (title, group, _) in GROUPS.items()]
    rows += [("[Run and trainer](run.md)", "`run`, `trainer`")]
    return _INDEX + table(("page", "keys of"), rows)


def _run_page() -> str:
    return (
        "# Run and trainer\n\n## run\n\nWhere a run writes, and what it belongs to.\n\n"
        + _table(list(run_rows({})))
        + "\n## trainer\n\nLightning's `Trainer`; every key of it is allowed. These have another default here:\n\n"
        + _table([row for row in trainer_rows({}) if row.key.removeprefix("trainer.") in TRAINER_DEFAULTS])
        + "\n## seed_everything\n\nSeed of weights, order and views; 0 by default.\n"
    )


def _table(rows: Sequence[Row]) -> str:
    return table(
        _HEADER,
        [(code(row.key), prose(row.types), code(row.value), prose(row.description)) for row in rows],
    )
