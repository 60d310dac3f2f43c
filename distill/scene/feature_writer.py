"""Base of files of features: written piece by piece, and whole or not at all."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

from distill.errors import UserError
from distill.scene.features import Feature
from distill.scene.writing import Writing


class FeatureWriter(Writing):
    """A file that takes in features batch by batch.

    As a context manager it closes the file at the end. Where anything fails, no file is left.

    Args:
        path: The file; what is there already is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._attempt(self._open)

    def add(self, features: Sequence[Feature]) -> None:
        """Takes in features, in the order of the file.

        Raises:
            UserError: The file cannot be written, or the disk is full.
        """
        self._attempt(lambda: self._write(features))

    def close(self) -> None:
        """Completes the file.

        Raises:
            UserError: The file cannot be written, or the disk is full.
        """
        self._attempt(self._finish)

    def discard(self) -> None:
        """Removes what was written."""
        self.path.unlink(missing_ok=True)

    @abstractmethod
    def _open(self) -> None:
        """Begins the file."""

    @abstractmethod
    def _write(self, features: Sequence[Feature]) -> None:
        """Takes in features."""

    @abstractmethod
    def _finish(self) -> None:
        """Completes the file."""

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
            self.discard()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
            raise UserError(
                f"{self.path} cannot be written ({reason}); free space or permit writing there, or name another place"
            ) from error
        except BaseException:
            self.discard()
            raise


class TextWriter(FeatureWriter):
    """A file of text in UTF-8.

    Attributes:
        file: Where the text goes.
    """

    file: TextIO

    def discard(self) -> None:
        """Removes what was written."""
        with suppress(OSError):  # what waits in the buffer does not fit on a full disk either
            self._closing.close()
        super().discard()

    def _open(self) -> None:
        self._closing = ExitStack()
        self.file = self._closing.enter_context(self.path.open("w", encoding="utf-8", newline="\n"))

    def _finish(self) -> None:
        self._closing.close()
