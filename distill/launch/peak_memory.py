"""How much memory a model takes while it computes: in a process of its own, which is told what to run.

python -m distill.launch.peak_memory MODEL SIDE THREADS PRECISION
"""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from distill.errors import UserError
from distill.exported.facts import FLOAT32
from distill.exported.session import is_exported, open_session
from distill.launch.bench_image import bench_image
from distill.process_memory import forget_peak, process_bytes
from distill.training.allocator import trim_freed_memory

_PASSES = 2  # OpenVINO compiles for a size in the second
_LIBRARIES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}


def peak_memory(name: str, side: int, threads: int, precision: str) -> float | None:
    """The most memory that a process has while the model computes, without what it has before it opens the model.

    Args:
        name: A run folder or an exported file.
        side: Of the image, in pixels.
        threads: Of the runtime.
        precision: See `BenchModel.prepared`.

    Returns:
        In 10^6 bytes; None where the system does not tell.

    Raises:
        UserError: The process failed.
    """
    command = [sys.executable, "-m", "distill.launch.peak_memory", name, str(side), str(threads), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the memory of {name} cannot be measured: {(done.stderr.strip() or '?').splitlines()[-1]}")
    found: float | None = json.loads(done.stdout.splitlines()[-1])
    return found


def main(name: str, side: int, threads: int, precision: str) -> None:
    """Prints it."""
    suffix = Path(name).suffix.lower()
    import_module(_LIBRARIES[suffix] if is_exported(name) else "distill.launch.bench_models")
    before = process_bytes("VmRSS")
    if is_exported(name):
        run = _pass_of_file(name, side, threads, precision)
    else:
        from distill.launch.bench_models import BenchRun  # with PyTorch, which files do without

        run = BenchRun(name).prepared(side, threads, precision)
    trim_freed_memory()
    forgets = forget_peak()  # what opening it needed
    for _ in range(_PASSES):
        run()
    print(json.dumps((process_bytes("VmHWM") - before) / 1e6 if forgets else None))


def _pass_of_file(name: str, side: int, threads: int, precision: str) -> Callable[[], object]:
    session = open_session(name, threads=threads, exact=precision == FLOAT32)
    image = bench_image(side)
    return lambda: session.run(image, (side, side))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
