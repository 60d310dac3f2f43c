"""`distill export RUN --format NAME... --out DIR`: the trained model as a file for other runtimes, checked."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from distill.cli.console import table_console
from distill.cli.parser import VerbParser
from distill.evaluation.units import counted
from distill.exporters.formats import FORMATS, ONNX, known_formats, require_packages

if TYPE_CHECKING:
    from distill.launch.export import Exported

_MORE = """
Every file is run in its own runtime on images of the run, at four sizes and more, and compared with the run; a file
that differs is not kept. onnx runs in onnxruntime and, with land cover, in the QGIS plugin Deepness; openvino on Intel
processors; pt2 in PyTorch; safetensors is weights and recipe for `distill.load`. `distill predict FILE SOURCE` runs a
file.
"""


def run(words: list[str]) -> None:
    """Runs `distill export`.

    Raises:
        UserError: See `distill.export`.
    """
    given = vars(parser().parse_args(words[1:]))
    require_packages(known_formats(given["formats"] or ONNX), bool(given["int8"]))

    from distill.launch.export import export

    options = {key: value for key, value in given.items() if value is not None}
    for one in export(options.pop("run"), **options):
        print_exported(one)


def parser() -> VerbParser:
    """The parser of the command line; an option that is not given is None."""
    whole = VerbParser("distill export", description=__doc__, epilog=_MORE)
    add = whole.add_argument
    add("run", metavar="RUN", help="run folder")
    add("--format", dest="formats", nargs="+", metavar="NAME", help=f"{', '.join(FORMATS)}; default onnx")
    add("--out", metavar="DIR", required=True, help="output folder")
    add("--checkpoint", metavar="NAME", help="last (default), best, or a file")
    add("--part", choices=("model", "student"), help="the whole model (default), or its backbone alone")
    add("--max-detections", type=int, metavar="N", help="raise how many instances the file finds at most")
    add("--score-threshold", type=float, metavar="P", help="lower the lowest score of an instance")
    add("--images", type=Path, metavar="DIR", help="images to check on, in place of the run's validation images")
    add("--full", action="store_true", default=None, help="compare AP or mIoU on all validation images, too")
    add("--int8", action="store_true", default=None, help="quantise to 8 bits, calibrated on the training images")
    add("--allow-loss", action="store_true", default=None, help="keep an int8 file that loses more than 1 point")
    return whole


def print_exported(one: "Exported") -> None:
    """Prints the files that were written, how they were checked, and notes."""
    console = table_console()
    size = sum(path.stat().st_size for path in one.files)
    precision = "" if one.facts is None else f", {one.facts.precision}"
    console.print(f"wrote {', '.join(map(str, one.files))} ({size / 1e6:.1f} MB{precision})")
    if one.checks:
        table = Table(title=f"{one.runtime} beside the run", title_justify="left")
        table.add_column("image")
        for name in one.checks[0].difference.row:
            table.add_column(name, justify="right")
        for check in one.checks:
            table.add_row(check.image, *check.difference.row.values())
        console.print(table)
        if any(check.difference.compared for check in one.checks):
            console.print(f"verified on {counted(len(one.checks), 'image')}")
        else:
            console.print("no image had an instance: only that neither finds one was compared")
    for note in one.notes:
        console.print(f"note: {note}")
