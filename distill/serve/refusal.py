"""A request that is answered with one line of what is wrong."""


class Refused(Exception):
    """Becomes an answer with a status of HTTP and the line as JSON."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
