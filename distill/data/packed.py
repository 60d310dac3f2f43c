"""A file inside a tar: read at its place, without unpacking."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PackedFile:
    """A file inside an uncompressed tar; it opens as a `Path` does.

    Args:
        tar: The tar.
        name: Of the file inside.
        offset: Where its bytes begin, from the start of the tar.
        size: How many there are.
    """

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"

    def open(self, mode: Literal["rb"]) -> BytesIO:
        """The content; other modes than "rb" there are none.

        Raises:
            OSError: The tar cannot be read.
            EOFError: It has become shorter.
        """
        # Opened anew each time, which takes microseconds: neither forks nor limits of open files need any care.
        with self.tar.open("rb", buffering=0) as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise EOFError("the tar ends inside it")
        return BytesIO(content)

    @property
    def gdal_name(self) -> str:
        """As GDAL opens it: https://gdal.org/en/stable/user/virtual_file_systems.html#vsisubfile-portions-of-files."""
        return f"/vsisubfile/{self.offset}_{self.size},{self.tar.absolute()}"


Source = Path | PackedFile
