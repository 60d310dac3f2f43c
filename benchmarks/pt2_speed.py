"""RS4D as a `.pt2` file against the model that it was written from, in turns.

    python benchmarks/pt2_speed.py                      # tiny at 512 pixels and base at 1024, one thread
    python benchmarks/pt2_speed.py small:768 --threads 2

With one thread a time is that of the processor, with more that of the clock. The maps of both must be equal, bit by
bit.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from measuring import Candidate, console, make_table, measure, processor

from distill.exported.facts import FEATURES, ExportedFacts
from distill.exported.pt2_program import read_pt2
from distill.exporters.feature_graph import FeatureGraph
from distill.exporters.pt2_file import write_pt2
from distill.scene.tile_size import TileSize
from students import RS4D


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny:512", "base:1024"], help="RS4D variant and side in pixels")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    table = make_table("RS4D, one image", "model", "eager / s", ".pt2 / s", ".pt2 by eager", "file / MB", "load / s")
    for model in arguments.models:
        variant, side = model.split(":")
        torch.manual_seed(0)
        graph = FeatureGraph(RS4D(variant, image_size=int(side)))
        image = torch.rand(1, 3, int(side), int(side))
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            file = Path(folder, "model.pt2")
            with torch.inference_mode(False):
                write_pt2(graph, facts(graph), file)
            start = clock()
            program = read_pt2(file)
            load, size = clock() - start, file.stat().st_size
            for one, other in zip(program(image), graph(image), strict=True):
                if not torch.equal(one, other):
                    raise SystemExit(f"{model}: the maps differ; the times would mean nothing")
            candidates = {name: partial(run, image) for name, run in (("eager", graph), (".pt2", program))}
            seconds = measure(
                {name: Candidate(run, threads=arguments.threads, clock=clock) for name, run in candidates.items()}
            )
        ratio = seconds[".pt2"] / seconds["eager"]
        table.add_row(
            f"{variant}, {side} px",
            *(f"{each:.3f}" for each in seconds.values()),
            f"{ratio:.3f}",
            f"{size / 1e6:.1f}",
            f"{load:.1f}",
        )
    console.print(table)
    console.print(f"torch {torch.__version__}, {arguments.threads} threads, {processor()}")


def facts(graph: FeatureGraph) -> ExportedFacts:
    mean, std = tuple(graph.student.mean), tuple(graph.student.std)
    size = TileSize(512, 0)
    return ExportedFacts(
        FEATURES, "features", (), graph.stride, mean, std, size, "", graph.student.class_path, "", "", ""
    )


if __name__ == "__main__":
    main()
