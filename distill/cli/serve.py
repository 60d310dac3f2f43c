"""`distill serve RUN [RUN ...]`: a page on this machine that shows what runs find in the images dropped on it."""

import math
from importlib.util import find_spec

from distill.cli.parser import VerbParser
from distill.errors import UserError

_PACKAGES = ("fastapi", "uvicorn")
_MORE = """\
Only this machine reaches the page unless --host says otherwise. Images are predicted one after the other, as
`distill predict` does, and removed with their results when the server ends.
"""


def run(words: list[str]) -> None:
    """Runs `distill serve RUN [RUN ...] [--host NAME] [--port N] [--max-mb N] [--max-pixels N] ...`.

    Raises:
        UserError: The extra is not installed, there is no such run, or the address cannot be used.
    """
    given = parser().parse_args(words[1:])
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UserError(f"distill serve needs {' and '.join(missing)}; pip install 'distill-rs[serve]'")
    for name in ("max_mb", "max_pixels"):
        if not 0 < vars(given)[name] < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {vars(given)[name]:g}; it must be a finite number above 0")
    if not 0 <= given.port < 2**16:
        raise UserError(f"--port is {given.port}; it must lie in 0 to {2**16 - 1}")
    from distill.serve.server import serve

    serve(
        given.runs,
        given.host,
        given.port,
        given.max_mb,
        given.max_pixels,
        say=lambda line: print(line, flush=True),
        score=given.score,
        checkpoint=given.checkpoint,
        device=given.device,
    )


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill serve", description=__doc__, epilog=_MORE)
    whole.add_argument("runs", nargs="+", metavar="RUN", help="run folders; two are compared with a slider")
    whole.add_argument("--host", default="127.0.0.1", metavar="NAME", help="address to listen on; by default loopback")
    whole.add_argument("--port", type=int, default=8000, metavar="N", help="port; by default 8000, 0 is any free one")
    whole.add_argument("--max-mb", type=float, default=200, metavar="N", help="largest file in MB; by default 200")
    whole.add_argument(
        "--max-pixels", type=int, default=100_000_000, metavar="N", help="most pixels of an image; by default 10^8"
    )
    whole.add_argument(
        "--score", type=float, default=0.1, metavar="S", help="least score of an instance that the page can show"
    )
    whole.add_argument("--checkpoint", metavar="NAME", help='"last" (default), "best" or a file')
    whole.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:0; by default the GPU if there is one")
    return whole
