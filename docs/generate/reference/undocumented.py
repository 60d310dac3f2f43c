"""What stops the build of the reference."""


class Undocumented(Exception):
    """Something that the reference shows has no description.

    Args:
        what: Names of what has none.
    """

    def __init__(self, what: list[str]) -> None:
        super().__init__(f"without a description: {', '.join(what)}; write a docstring, or an entry under `Args:`")
