"""`distill cache RECIPE [--out DIR] [--verify] [--key value]`: stores the teacher's targets for a pool of views."""

import sys
from pathlib import Path

from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.runs.missing_paths import require_paths
from distill.runs.moved import moved_paths, words_for

_USAGE = "distill cache RECIPE [RECIPE ...] [--out DIR] [--verify] [--key value]"
_MORE = """
Stores what the teacher of a distillation makes of data.views views of each training image and of the validation
images, so that runs on these views need no teacher. Interrupted, the same command goes on; started several times, the
processes share the work.

--key value is any key of the recipe, as of `distill fit`; model.target_dtype is the precision of what is stored.
"""


def run(words: list[str]) -> None:
    """Runs `distill cache`.

    Raises:
        UserError: Anything the user can fix.
    """
    given, rest = parser().parse_known_args(words[1:])
    recipe, overrides = split(rest)
    if recipe is None:
        raise UserError("`distill cache` needs a recipe; `distill recipes list` lists those that come with the package")
    for note in recipe.notes:
        print(f"distill: {note}", file=sys.stderr)
    check("fit", recipe, [*words_for(moved_paths(recipe.path)), *overrides])
    require_paths(recipe, overrides, built=("data", "model.teacher"))

    from distill.launch.attach_cache import use_command
    from distill.launch.cache import make_cache
    from distill.launch.parse import ParsedRecipe
    from distill.launch.quiet import quiet

    with quiet():
        parsed = ParsedRecipe("fit", recipe, overrides)
    done = make_cache(parsed, given.out, given.verify)
    info = done.info
    entries = info.images * info.views + info.validation_images
    print(f"{done.folder}: {entries:,} entries, {info.total_bytes / 1e9:.2f} GB, complete")
    if info.broken:
        print(f"{len(info.broken)} broken images have stand-ins, listed in {done.folder.header}: {info.broken[0]}, ...")
    if found := done.verified:
        print(
            f"verified: {found.entries:,} checksums; of {found.recomputed} targets made anew {found.equal} are equal "
            f"to the bit, the largest difference is {found.largest_error:.1e} relative L2"
        )
    print(f"Next:\n  {use_command(parsed, done.folder)}")


def parser() -> VerbParser:
    """The parser of the command line, of what is no key of a recipe."""
    whole = VerbParser("distill cache", usage=_USAGE, description=__doc__, epilog=_MORE, allow_abbrev=False)
    whole.add_argument("--out", type=Path, metavar="DIR", help="folder of the cache; by default caches/RECIPE-KEY")
    whole.add_argument("--verify", action="store_true", help="read everything again, and recompute 16 entries")
    return whole
