"""The queue of the server: one worker for all users, in order of arrival, and the results that are kept."""

import itertools
import logging
import queue
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from distill.errors import UserError, first_line

logger = logging.getLogger(__name__)

MOST_WAITING = 8  # images
MOST_KEPT = 24  # images with their results; the oldest is removed for the next


@dataclass(frozen=True)
class Picture:
    """An image as it is shown.

    Attributes:
        file: A JPEG.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """

    file: Path
    height: int
    width: int


@dataclass(frozen=True)
class Result:
    """The results of a run for an image.

    Attributes:
        shown: The file that the page draws; see `distill.serve.shown`.
        files: Files to download, by name.
        counts: Instances of each class, or its share of the pixels with data.
        notes: What there is to know, a line each.
        seconds: The time it took.
    """

    shown: Path
    files: dict[str, Path]
    counts: dict[str, float]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


class ServedRun(Protocol):
    """A run that is served; of instances, none has a score below `score`."""

    name: str
    task: str
    class_names: list[str]
    score: float

    def predict(self, image: Path, out: Path, advance: Callable[[int, int], None]) -> Result:
        """Predicts an image file and writes the results into a folder; `advance` is told how many of how many tiles
        are done. Raises a UserError for an image that it cannot read."""


@dataclass
class Job:
    """An image in the queue.

    Attributes:
        id: Known to its sender only.
        folder: Its files.
        image: The file.
        name: Of the image, as it was sent.
        state: "waiting", "predicting", "done" or "failed".
        doing: While it is predicted, the name of the run and how many of how many tiles are done.
        picture: The image as it is shown, once it is read.
        results: Of each run, a result or the line that says why there is none.
        error: Why it failed.
    """

    id: str
    folder: Path
    image: Path
    name: str
    state: str = "waiting"
    doing: tuple[str, int, int] = ("", 0, 0)
    picture: Picture | None = None
    results: list[Result | str] = field(default_factory=list)
    error: str = ""


class Busy(UserError):
    """Too many images wait."""


class Worker:
    """Predicts images one after the other in a thread of its own.

    Args:
        runs: What finds something in them.
        look: Makes the picture of an image file in a folder.
        place: Folder of all files.
    """

    def __init__(self, runs: Sequence[ServedRun], look: Callable[[Path, Path], Picture], place: Path) -> None:
        self.runs = list(runs)
        self._look, self._place = look, place
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.Queue[Job] = queue.Queue()
        self._lock = threading.Lock()
        threading.Thread(target=self._work, name="predictions", daemon=True).start()

    def new_folder(self) -> Path:
        """A folder for an image that is being sent.

        Raises:
            Busy: Too many images wait.
        """
        with self._lock:
            waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= MOST_WAITING:
            raise Busy(f"{waiting} images are waiting already; try again in a minute")
        folder = self._place / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def submit(self, folder: Path, image: Path, name: str) -> Job:
        """Adds an image to the queue."""
        job = Job(secrets.token_urlsafe(24), folder, image, name)
        with self._lock:
            self._jobs[job.id] = job
            finished = [old for old in self._jobs.values() if old.state in ("done", "failed")]
        for old in finished[: max(0, len(finished) - MOST_KEPT)]:
            self.remove(old.id)
        self._waiting.put(job)
        return job

    def job(self, identity: str) -> Job | None:
        """The image with an id; None if it is gone."""
        return self._jobs.get(identity)

    def ahead(self, job: Job) -> int:
        """The number of images before a waiting one."""
        with self._lock:
            before = list(self._jobs.values())
        # One that is removed meanwhile is not among them.
        earlier = itertools.takewhile(lambda other: other is not job, before)
        return sum(other.state in ("waiting", "predicting") for other in earlier)

    def remove(self, identity: str) -> None:
        """Removes an image and its results; one that is predicted is removed once that is done."""
        with self._lock:
            job = self._jobs.pop(identity, None)
        if job is not None and job.state != "predicting":
            shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            job = self._waiting.get()
            with self._lock:
                if job.id not in self._jobs:
                    continue
                job.state = "predicting"
            self._predict(job)
            with self._lock:
                gone = job.id not in self._jobs
            if gone:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _predict(self, job: Job) -> None:
        try:
            job.picture = self._look(job.image, job.folder)
            for number, run in enumerate(self.runs):
                job.doing = (run.name, 0, 0)
                job.results.append(self._result(job, run, job.folder / str(number)))
            job.state = "done"
        except Exception as error:  # of one user, whom it is told; the others go on
            job.error, job.state = self._line(job, error), "failed"

    def _result(self, job: Job, run: ServedRun, out: Path) -> Result | str:
        def advance(done: int, total: int) -> None:
            job.doing = (run.name, done, total)

        try:
            out.mkdir()
            return run.predict(job.image, out, advance)
        except Exception as error:  # another run may well read this image
            return self._line(job, error)

    def _line(self, job: Job, error: Exception) -> str:
        """What is said of an error, without the place of the files on this machine."""
        if isinstance(error, UserError):
            line = " ".join(str(error).split())
        else:
            logger.error("the image %r cannot be predicted", job.name, exc_info=error)
            line = f"the image cannot be predicted ({type(error).__name__}: {first_line(error)}); see the server's log"
        return line.replace(f"{job.image}", job.name).replace(f"{job.folder}/", "")
