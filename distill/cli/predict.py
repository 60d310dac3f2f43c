"""`distill predict RUN SOURCE... --out DIR`: masks, map polygons and class maps of images of any size."""

import re
from typing import Any

from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.scene.options import ALL_FORMATS

_MORE = """
Instances: predictions.json (COCO results), images.json (a COCO data set), NAME.gpkg with polygons in the CRS of the
raster, NAME_overlay.jpg. Land cover: NAME.tif, a cloud-optimised class raster, NAME_overlay.jpg. A prediction that was
interrupted goes on with the same command.
"""


def run(words: list[str]) -> None:
    """Runs `distill predict RUN SOURCE... --out DIR [--option value]`.

    Raises:
        UserError: See `distill.predict`.
    """
    given = vars(parser().parse_args(words[1:]))

    from distill.cli.predict_lines import print_prediction
    from distill.launch.predict import predict

    options = {key: value for key, value in given.items() if value is not None}
    print_prediction(predict(options.pop("run"), options.pop("sources"), **options))


def parser() -> VerbParser:
    """The parser of the command line; an option that is not given is None."""
    whole = VerbParser("distill predict", description=__doc__, epilog=_MORE)
    whole.add_argument("run", metavar="RUN", help="run folder, a file of `distill export`, or hf://owner/name")
    whole.add_argument("sources", metavar="SOURCE", nargs="+", help="files, folders, or patterns in quotes")
    whole.add_argument("--out", metavar="DIR", required=True, help="output folder")
    add, add_rare = whole.add_argument, whole.add_rare
    add("--format", dest="formats", nargs="+", metavar="NAME", help=f"{', '.join(ALL_FORMATS)}; default by task")
    add("--checkpoint", metavar="NAME", help="last (default), best, or a file")
    add("--tile", type=int, metavar="PX", help="side of tiles; by default that of the training images")
    add("--overlap", type=int, metavar="PX", help="least overlap of tiles; by default by the objects of the training")
    add("--score", type=float, metavar="P", help="leave out instances below this score; default 0.3")
    add("--classes", nargs="+", metavar="NAME", help="keep only these instances")
    add("--bands", type=int, nargs="+", metavar="N", help="bands shown as red, green, blue, from 1")
    add("--batch-size", type=int, metavar="N", help="tiles predicted together; by default that of the run")
    add("--device", metavar="NAME", help="cpu, cuda or cuda:0")
    add("--overwrite", action="store_true", default=None, help="replace results of other settings")
    add_rare("--stretch", type=float, nargs=2, metavar=("LO", "HI"), help="values that become black and white")
    add("--gsd", type=float, metavar="M", help="resample to pixels of this many metres while reading")
    add("--crs", metavar="CRS", help="coordinate reference system of rasters that do not say theirs")
    add_rare("--simplify", type=float, metavar="M", help="how far polygons may leave the pixels' edges; 0 keeps them")
    add_rare("--min-area", type=float, metavar="M2", help="leave out smaller polygons")
    add_rare(
        "--confidence", action="store_true", default=None, help="land cover: write the probability of each class, too"
    )
    add("--no-overlay", dest="overlay", action="store_false", default=None, help="write no pictures")
    add_rare("--tta", action="store_true", default=None, help="join the results of eight orientations of each tile")
    add_rare("--shard", type=_shard, metavar="I/N", help="this is process I of N that share the work, from 1")
    add_rare("--ray", metavar="ADDRESS", help="share the work over a Ray cluster: local, auto, or its address")
    add_rare("--workers", type=int, metavar="N", help="processes of --ray; one for each GPU, or for four CPU cores")
    return whole


def _shard(text: str) -> Any:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise UserError(f"shard is {text!r}; give I/N, for example 1/8")
    return int(found[1]), int(found[2])
