"""Files written piece by piece: completed on success, removed on failure."""

from abc import ABC, abstractmethod
from typing import Any, Self


class Writing(ABC):
    """A context manager that closes at the end, or discards where the block fails."""

    @abstractmethod
    def close(self) -> Any:
        """Completes what is written."""

    @abstractmethod
    def discard(self) -> None:
        """Removes what was written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.close()
        else:
            self.discard()
