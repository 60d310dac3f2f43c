"""The page of metrics and costs, from the table that logging, tables and cards read."""

from distill.evaluation.metrics import COSTS, markdown_table

_OPENING = """# Metrics and costs

Names in `metrics.csv`, `summary.json`, `test.json` and on dashboards, with `train/`, `val/` or `test/` before them:

```sh
distill test runs/NAME      # prints them, and writes runs/NAME/test.json
```

Fractions are stored; tables show percent. A metric of one class has the class behind it: `test/mask/AP/ship`. A probe
has its name inside: `val/probe/NAME/linear`. A further target of a distillation has its name before the metric:
`val/block_3/l1_ratio`.

## Metrics

"""
_COSTS = """
## Costs

Of the student, for one image of the recipe's size. `distill fit` writes them to `summary.json`.

| name | column | meaning | unit |
|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """The page, by its place in the site."""
    costs = "".join(f"| `{name}` | {c.name} | {c.meaning} | {c.unit} |\n" for name, c in COSTS.items())
    return {"reference/metrics.md": _OPENING + markdown_table() + _COSTS + costs}
