"""`.pt2` files: programs of `torch.export` that keep this project's own operators, so that they run at native speed."""

import json
from pathlib import Path

import torch

from distill.exported.facts import EXTRA_FILE, ExportedFacts
from distill.exported.pt2_program import OPERATORS_FILE
from distill.exporters.graph import ExportGraph, refused_in_one_line
from distill.files import write_atomically


def write_pt2(graph: ExportGraph, facts: ExportedFacts, path: Path) -> None:
    """Writes a graph whose height and width vary, as multiples of its stride.

    Args:
        graph: In eval mode, on the CPU.
        facts: Stored in the file, for `distill.exported.pt2_program.read_pt2`.
        path: Of the file, which gets its name when it is finished.

    Raises:
        UserError: The graph cannot be written, or the place.
    """
    with refused_in_one_line(graph), torch.no_grad():  # operators keep nothing for a backward pass
        program = torch.export.export(
            graph,
            graph.example(),
            dynamic_shapes=graph.dynamic_shapes(),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    extra = {EXTRA_FILE: facts.to_json(), OPERATORS_FILE: json.dumps(graph.operator_modules())}
    write_atomically(path, lambda temporary: torch.export.save(program, temporary, extra_files=extra))
