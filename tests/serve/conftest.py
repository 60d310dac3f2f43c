"""Runs whose results are known, and a server in this process."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from distill.data.masks import encode_mask
from distill.errors import UserError
from distill.serve.app import make_app
from distill.serve.guard import Guard
from distill.serve.work import Picture, Result, Worker
from tests.chromium import browser as browser

MAX_BYTES, MAX_PIXELS = 1_000_000, 250_000
NAMES = ["ship", "building"]


class FakeRun:
    """Finds a ship with score 0.9 and a building with score 0.4; the count of ships is the red of the first pixel."""

    task, class_names, score, bands = "instances", NAMES, 0.1, None

    def __init__(self, name: str) -> None:
        self.name = name
        self.active = self.most_active = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def predict(self, image: Path, out: Path, advance: Callable[[int, int], None]) -> Result:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            advance(1, 2)
            assert self.gate.wait(30)
            if self.fault is not None:
                raise self.fault
            return self._result(image, out)
        finally:
            self.active -= 1

    def _result(self, image: Path, out: Path) -> Result:
        with Image.open(image) as opened:
            red = opened.convert("RGB").getpixel((0, 0))[0]
            mask = np.zeros((opened.height, opened.width), np.uint8)
        mask[: len(mask) // 2] = 1
        results = [
            {"image_id": 1, "category_id": label + 1, "score": score, "segmentation": encode_mask(mask)}
            for label, score in ((0, 0.9), (1, 0.4))
        ]
        (out / "predictions.json").write_text(json.dumps(results))
        features = [{"type": "Feature", "geometry": None, "properties": {"score": one["score"]}} for one in results]
        (out / f"{image.stem}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        outlines = [[0, 0.9, "M10 10L40 10L40 40L10 40Z"], [1, 0.4, "M60 20L90 20L90 50L60 50Z"]]
        (out / "shown").write_text(json.dumps(outlines))
        files = {name: out / name for name in ("predictions.json", f"{image.stem}.geojson")}
        return Result(out / "shown", files, {"ship": red, "building": 1}, [f"{image.stem} is odd"], 0.5)


class FakeLandCover(FakeRun):
    """Gives the left half the first class, and the right half the second but for a row without data."""

    task = "segmentation"

    def _result(self, image: Path, out: Path) -> Result:
        labels = np.zeros((6, 10), np.uint8)
        labels[:, 5:] = 1
        labels[0] = 255
        (out / "shown").write_bytes(np.array(labels.shape, "<u4").tobytes() + labels.tobytes())
        (out / "map.tif").write_bytes(b"II*\0 a raster")
        return Result(out / "shown", {"map.tif": out / "map.tif"}, {"ship": 0.5, "building": 0.5})


def fake_look(image: Path, folder: Path) -> Picture:
    try:
        with Image.open(image) as opened:
            opened.convert("RGB").save(folder / "picture.jpg")
            return Picture(folder / "picture.jpg", opened.height, opened.width)
    except OSError as error:
        raise UserError(f"image {str(image)!r} is damaged\n({error})") from error


def png(red: int = 100, size: tuple[int, int] = (120, 80)) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, 90, 80)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def runs() -> Iterator[list[FakeRun]]:
    made = [FakeRun("first"), FakeRun("second")]
    yield made
    for run in made:
        run.gate.set()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def worker(runs: list[FakeRun], place: Path) -> Worker:
    return Worker(runs, fake_look, place)


@pytest.fixture
def client(worker: Worker) -> TestClient:
    return TestClient(Guard(make_app(worker, MAX_BYTES, MAX_PIXELS)), base_url="http://127.0.0.1:8000")


def sent(client: TestClient, content: bytes, name: str = "a.png") -> str:
    """The id of an image that was taken."""
    answer = client.post("/api/images", params={"name": name}, content=content)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def until(ready: Callable[[], object]) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(client: TestClient, identity: str) -> dict:
    """What is told of an image once it is predicted."""
    state: dict = {}

    def done() -> bool:
        state.update(client.get(f"/api/images/{identity}").json())
        return state["state"] in ("done", "failed")

    until(done)
    return state


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[[list[FakeRun]], str]]:
    """Serves runs; returns the address."""
    servers = []

    def served(runs: list[FakeRun]) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        app = Guard(make_app(Worker(runs, fake_look, place), MAX_BYTES, MAX_PIXELS))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        servers.append((server, thread))
        until(lambda: server.started)
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    yield served
    for server, thread in servers:
        server.should_exit = True
        thread.join(30)
