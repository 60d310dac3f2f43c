"""The error of a request that is answered with one line."""


class Refused(Exception):
    """An error that becomes an answer with an HTTP status and one line as JSON."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
