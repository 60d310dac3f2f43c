"""A file that a browser sends: stored as it comes, within bounds, under a name of this server's choice."""

import asyncio
import re
import shutil
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from distill.data.strangers import inspect
from distill.errors import UserError
from distill.serve.refusal import Refused
from distill.serve.work import Busy, Job, Worker

MOST_AT_ONCE = 4
SILENCE = 30.0  # seconds after which an upload that does not go on is given up
_LONGEST_NAME = 80  # bytes, of the 255 that a file name has on Linux


class Uploads:
    """Receives images and adds them to the queue.

    Args:
        worker: Predicts them.
        max_bytes: Of a file.
        max_pixels: Of an image.
    """

    def __init__(self, worker: Worker, max_bytes: int, max_pixels: int) -> None:
        self._worker, self.max_bytes, self.max_pixels = worker, max_bytes, max_pixels
        self._open = 0

    async def receive(self, request: Request, name: str) -> Job:
        """Stores the body of a request as an image file.

        Args:
            request: Its body is the file as it is.
            name: Of the file on the sender's machine.

        Raises:
            Refused: It is too large, no image, or comes at a busy time.
        """
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self.max_bytes:
            raise self._too_large()
        if self._open >= MOST_AT_ONCE:
            raise Refused(503, f"{self._open} images are being sent already; try again in a moment")
        self._open += 1
        try:
            folder = self._worker.new_folder()
            try:
                return await self._take(request, folder, name)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except Busy as busy:
            raise Refused(503, str(busy)) from busy
        except UserError as error:
            raise Refused(422, str(error)) from error
        except OSError as error:
            raise Refused(507, f"the image cannot be stored ({error.strerror}); try again later") from error
        finally:
            self._open -= 1

    async def _take(self, request: Request, folder: Path, name: str) -> Job:
        path = folder / "upload"
        await self._store(request, path)
        found = await asyncio.to_thread(inspect, path, self.max_pixels)
        stem = stem_of(name)
        place = folder / "image"  # where no result can have its name
        place.mkdir()
        image = path.rename(place / f"{stem}{found.suffix}")
        return self._worker.submit(folder, image, f"{stem}{found.suffix}")

    async def _store(self, request: Request, path: Path) -> None:
        size = 0
        chunks = request.stream()
        with path.open("wb") as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(chunks), SILENCE)
                except StopAsyncIteration:
                    break
                except (TimeoutError, ClientDisconnect) as error:
                    raise Refused(408, "the image did not arrive whole; send it again") from error
                size += len(chunk)
                if size > self.max_bytes:  # whatever the header said
                    raise self._too_large()
                await asyncio.to_thread(file.write, chunk)
        if not size:
            raise Refused(422, "the file is empty")

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"the file is larger than the {self.max_bytes / 1e6:g} MB allowed here; use `distill predict`, or start "
            "`distill serve` with a larger --max-mb",
        )


def stem_of(name: str) -> str:
    """The name for the files of an image: the last part of its name, without suffix and odd characters."""
    last = re.split(r"[/\\]", name)[-1]
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", last)
    plain = re.sub(r"[^\w-]+", "_", stem).strip("_-").encode("utf-8", "ignore")
    return plain[:_LONGEST_NAME].decode("utf-8", "ignore") or "image"
