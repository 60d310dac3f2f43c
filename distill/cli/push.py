"""`distill push RUN TO`: a trained run for others, as a folder or on the Hugging Face Hub."""

from distill.cli.parser import VerbParser

_MORE = """
TO is a folder, or hf://owner/name on the Hub, where `hf auth login` or HF_TOKEN says who you are. Written are
model.safetensors, recipe.yaml without paths of this machine, config.json and README.md, the model card: read it before
you share it.
"""


def run(words: list[str]) -> None:
    """Runs `distill push RUN TO [--with FILE ...] [--license NAME] [--public] [--checkpoint NAME]`.

    Raises:
        UserError: See `distill.push`.
    """
    given = parser().parse_args(words[1:])

    from distill.launch.share import push

    done = push(
        given.run,
        given.to,
        checkpoint=given.checkpoint,
        exported=given.exported,
        licence=given.licence,
        public=given.public,
    )
    print(f"{done.place}: {', '.join(done.files)}")
    if done.address is not None:
        print(done.address)


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill push", description=__doc__, epilog=_MORE)
    whole.add_argument("run", metavar="RUN", help="run folder")
    whole.add_argument("to", metavar="TO", help="folder, hf://owner/name or hf://owner/name@branch")
    add = whole.add_argument
    add(
        "--with",
        dest="exported",
        nargs="+",
        default=[],
        metavar="FILE",
        help="exported files: .onnx, or .xml with its .bin",
    )
    add("--license", dest="licence", metavar="NAME", help="of the weights, as the Hub names it, such as apache-2.0")
    add("--public", action="store_true", help="everybody sees a repository that is made; by default its owner alone")
    add("--checkpoint", metavar="NAME", help="last (default), best, or a file")
    return whole
