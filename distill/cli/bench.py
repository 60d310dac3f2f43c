"""`distill bench RUN|FILE ...`: what models cost on this machine, in turns: time, multiply-adds and memory by part."""

import json
from pathlib import Path

from distill.cli.console import table_console
from distill.cli.parser import VerbParser
from distill.files import write_text
from distill.phases import line_console

_MORE = """
Run folders compute in PyTorch, .onnx in onnxruntime, .xml in OpenVINO. `speed` is against the first model with as many
threads. `peak` is what the process holds while it computes, beyond the libraries; the parts are those of a run folder.
"""


def run(words: list[str]) -> None:
    """Runs `distill bench`.

    Raises:
        UserError: See `distill.bench`.
    """
    given = vars(parser().parse_args(words[1:]))

    from distill.launch.bench import bench

    files = {key: given.pop(key) for key in ("json", "markdown")}
    found = bench(given.pop("models"), **given)
    for table in found.rich_tables():
        table_console().print(table)
        table_console().print()
    line_console().print(found.sentence())
    if files["json"] is not None:
        write_text(files["json"], json.dumps(found.as_json(), indent=2) + "\n")
    if files["markdown"] is not None:
        write_text(files["markdown"], found.markdown())


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill bench", description=__doc__, epilog=_MORE)
    add = whole.add_argument
    add("models", nargs="+", metavar="RUN|FILE", help="run folders and exported files")
    add("--image-size", type=int, metavar="N", help="side of the image in pixels; default: that of the first model")
    add("--threads", type=int, nargs="+", metavar="N", help="numbers of threads; default: PyTorch's")
    add("--precision", nargs="+", metavar="NAME", default=["float32"], help="float32, bfloat16; default float32")
    add("--repeats", type=int, metavar="N", default=5, help="rounds at least; default 5")
    add("--no-memory", dest="memory", action="store_false", help="do not measure memory, which starts processes")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--markdown", type=Path, metavar="FILE", help="write the tables for docs")
    return whole
