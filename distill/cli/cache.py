"""`distill cache RECIPE [--out DIR] [--verify] [--key value]`: stores the teacher's targets for a pool of views."""

import sys
from pathlib import Path

from distill.errors import UserError
from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.runs.moved import moved_paths, words_for

_HELP = """usage: distill cache RECIPE [RECIPE ...] [--out DIR] [--verify] [--key value]

Stores what the teacher of a distillation makes of data.views views of each training image and of the validation
images, so that runs on these views need no teacher. Interrupted, the same command goes on; started several times, the
processes share the work.

  --out DIR     folder of the cache; by default caches/RECIPE-KEY
  --verify      read everything again, and recompute 16 entries
  --key value   any key of the recipe, as of `distill fit`; model.target_dtype is the precision of what is stored

docs/cache.md says when a cache pays."""


def run(words: list[str]) -> None:
    """Runs `distill cache`.

    Raises:
        UserError: Anything the user can fix.
    """
    rest = words[1:]
    if not rest or {"-h", "--help"} & set(rest):
        print(_HELP)
        return
    check_too = "--verify" in rest
    out, rest = _option("--out", [word for word in rest if word != "--verify"])
    recipe, overrides = split(rest)
    if recipe is None:
        raise UserError("`distill cache` needs a recipe; `distill recipes` lists those that come with the package")
    for note in recipe.notes:
        print(f"distill: {note}", file=sys.stderr)
    check("fit", recipe, [*words_for(moved_paths(recipe.path)), *overrides])

    from distill.launch.attach_cache import use_command
    from distill.launch.cache import make_cache
    from distill.launch.parse import ParsedRecipe
    from distill.launch.quiet import quiet

    with quiet():
        parsed = ParsedRecipe("fit", recipe, overrides)
    done = make_cache(parsed, None if out is None else Path(out), check_too)
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


def _option(name: str, words: list[str]) -> tuple[str | None, list[str]]:
    """The value of an option of this verb, and the other words."""
    for place, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key == name:
            if not equals and place + 1 == len(words):
                raise UserError(f"{name} has no value; give one after it")
            return (value or words[place + 1]), words[:place] + words[place + (1 if equals else 2) :]
    return None, words
