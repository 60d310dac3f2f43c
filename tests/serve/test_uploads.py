"""Files that are sent: good ones are predicted, bad ones are refused with one line and leave nothing behind."""

import asyncio
import http.client
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fastapi import Request
from fastapi.testclient import TestClient
from PIL import Image

from distill.serve import uploads
from distill.serve.refusal import Refused
from distill.serve.uploads import Uploads, stem_of
from distill.serve.work import Worker
from tests.serve.conftest import MAX_BYTES, MAX_PIXELS, FakeRun, png, sent, settled


def test_an_image_is_predicted_by_every_run(client: TestClient) -> None:
    identity = sent(client, png(red=7), "my scene.PNG")
    told = settled(client, identity)
    assert (told["state"], told["name"], told["size"]) == ("done", "my_scene.png", [80, 120])
    assert [found["counts"]["ship"] for found in told["results"]] == [7, 7]
    assert told["results"][0]["notes"] == ["my_scene is odd"]
    picture = client.get(f"/api/images/{identity}/picture")
    assert Image.open(io.BytesIO(picture.content)).size == (120, 80)
    shown = client.get(f"/api/images/{identity}/1/shown")
    assert [score for _, score, _ in json.loads(shown.content)] == [0.9, 0.4]


def test_downloads_hold_what_the_page_shows(client: TestClient) -> None:
    identity = sent(client, png())
    settled(client, identity)
    address = f"/api/images/{identity}/0/files"
    for score, count in ((0, 2), (0.4, 2), (0.41, 1), (1, 0)):
        results = client.get(f"{address}/predictions.json", params={"score": score})
        assert len(results.json()) == count
        assert len(client.get(f"{address}/a.geojson", params={"score": score}).json()["features"]) == count
    assert results.headers["content-disposition"] == "attachment; filename*=utf-8''predictions.json"


def test_a_download_has_the_name_of_its_image_in_any_script(client: TestClient) -> None:
    identity = sent(client, png(), "衛星.png")
    settled(client, identity)
    answer = client.get(f"/api/images/{identity}/0/files/衛星.geojson")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''%E8%A1%9B%E6%98%9F.geojson"


def tiff(**profile: object) -> bytes:
    """A raster that stores hardly any pixel."""
    with rasterio.MemoryFile() as memory:
        usual = {"height": 16, "width": 16, "count": 1, "dtype": "uint8", "SPARSE_OK": True}
        with memory.open(driver="GTiff", **{**usual, **profile}):
            pass
        return memory.read()


def huge_png(side: int) -> bytes:
    """A PNG of a few bytes that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


VRT = b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand><SimpleSource><SourceFilename>/etc/passwd'
HOSTILE = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello", "no image that is read here; send JPEG, PNG, TIFF"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "no image"),
    "vrt": (VRT, "no image"),
    "vrt with spaces": (b"   \n" + VRT, "no image"),
    "web map": (b"<GDAL_WMS><Service name='TMS'><ServerUrl>http://10.0.0.1/", "no image"),
    "json": (b'{"type": "FeatureCollection", "stac_version": "1.0.0"}', "no image"),
    "zip": (b"PK\x03\x04" + bytes(100), "no image"),
    "hdf": (b"\x89HDF\r\n\x1a\n" + bytes(100), "no image"),
    "pdf": (b"%PDF-1.7 /etc/passwd", "no image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", "no image"),
    "bmp of vrt": (b"BM" + VRT, "the BMP file is damaged"),
    "webp of vrt": (b"RIFF\x00\x01\x00\x00WEBP" + VRT, "the WebP file is damaged"),
    "jpeg of vrt": (b"\xff\xd8\xff" + VRT, "the JPEG file is damaged"),
    "jpeg 2000 of vrt": (b"\0\0\0\x0cjP  \r\n\x87\n" + VRT, "the JPEG 2000 file is damaged"),
    "tiff of vrt": (b"II*\0" + VRT, "the TIFF file is damaged"),
    "head of a png": (png()[:30], "the PNG file is damaged"),
    "head of a gif": (b"GIF89a\x01", "the GIF file is damaged"),
    "head of a tiff": (tiff()[:60], "the TIFF file is damaged"),
    "many pixels": (png(size=(501, 500)), "501 x 500 pixels, more than the 250,000 allowed here"),
    "png bomb": (huge_png(60_000), "pixels"),
    "tiff bomb": (tiff(height=60_000, width=60_000, tiled=True, blockxsize=4096, blockysize=4096), "pixels, more than"),
    "bands": (tiff(count=300), "300 bands, more than 256"),
    "block": (tiff(count=40, dtype="float64", interleave="pixel", tiled=True, blockxsize=2048, blockysize=2048), "GiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_file_is_one_line_and_leaves_nothing(
    client: TestClient, place: Path, runs: list[FakeRun], name: str
) -> None:
    content, said = HOSTILE[name]
    assert len(content) < MAX_BYTES
    answer = client.post("/api/images", params={"name": "scene.tif"}, content=content)
    assert answer.status_code == 422
    line = answer.json()["error"]
    assert said in line
    assert "\n" not in line
    assert str(place) not in line
    assert not list(place.iterdir())
    assert not any(run.most_active for run in runs)


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("WEBP", ".webp"), ("BMP", ".bmp"), ("TIFF", ".tif")])
def test_a_file_is_what_its_bytes_say(client: TestClient, place: Path, form: str, suffix: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 60, np.uint8)).save(file, form)
    told = settled(client, sent(client, file.getvalue(), "list.vrt"))
    assert told["state"] == "done"
    assert told["name"] == f"list{suffix}"
    assert [path.name for path in place.glob("*/image/*")] == [f"list{suffix}"]


def test_a_declared_size_is_refused_before_it_is_sent(client: TestClient, place: Path) -> None:
    for declared in (str(10**9), str(10**30), "many"):
        answer = client.post("/api/images", content=png(), headers={"content-length": declared})
        assert answer.status_code == 413
        assert "larger than the 1 MB allowed here" in answer.json()["error"]
    assert not list(place.iterdir())


def test_a_real_server_does_not_wait_for_a_gigabyte(serve: Callable[[list[FakeRun]], str]) -> None:
    host = serve([FakeRun("first")]).removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", "/api/images?name=a.tif")
    connection.putheader("content-length", str(10**9))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "1 MB allowed" in json.load(answer)["error"]


def test_a_size_that_was_not_declared_is_counted(client: TestClient, place: Path) -> None:
    answer = client.post("/api/images", content=(png() + bytes(100_000) for _ in range(20)))
    assert answer.status_code == 413
    assert not list(place.iterdir())


def test_a_file_damaged_behind_its_head_fails_in_one_line(client: TestClient, place: Path) -> None:
    content = bytearray(png(size=(400, 400)))
    told = settled(client, sent(client, bytes(content[: len(content) // 2]), "half.png"))
    assert told["state"] == "failed"
    assert told["error"].startswith("image 'half.png' is damaged (")
    assert "\n" not in told["error"]
    assert str(place) not in told["error"]
    assert settled(client, sent(client, png()))["state"] == "done"


async def _stalls() -> dict:
    await asyncio.sleep(3600)
    return {}


async def _leaves() -> dict:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("receive", [_stalls, _leaves])
def test_an_upload_that_does_not_go_on_is_given_up(
    worker: Worker, place: Path, monkeypatch: pytest.MonkeyPatch, receive: object
) -> None:
    monkeypatch.setattr(uploads, "SILENCE", 0.05)
    taking = Uploads(worker, MAX_BYTES, MAX_PIXELS)
    request = Request({"type": "http", "headers": []}, receive)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="did not arrive whole"):
        asyncio.run(taking.receive(request, "a.png"))
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\a b.PNG", "a_b"),
        ("..", "image"),
        ("", "image"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("a\0b\n.tif", "a_b"),
        ("/vsicurl/http://10.0.0.1/x.tif", "x"),
        ("Überblick 衛星.tiff", "Überblick_衛星"),
        ("x" * 300 + ".png", "x" * 80),
        ("衛" * 300 + ".png", "衛" * 26),
        ('"><script>.png', "script"),
    ],
)
def test_names_of_files_lose_what_is_not_a_name(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_nothing_but_results_can_be_asked_for(client: TestClient, place: Path) -> None:
    identity = sent(client, png())
    settled(client, identity)
    (place / "secret.json").write_text("[]")
    base = f"/api/images/{identity}"
    for address in (
        "/api/images/none",
        "/api/images/none/picture",
        f"{base}/2/shown",
        f"{base}/-1/shown",
        f"{base}/0/files/none.json",
        f"{base}/0/files/..%2f..%2fsecret.json",
        f"{base}/0/files/%2fetc%2fpasswd",
        "/..%2fapp.py",
        "/page/page.html",
    ):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "\n" not in answer.json()["error"]
    for address in (f"{base}/one/shown", f"{base}/0/files/predictions.json?score=high"):
        answer = client.get(address)
        assert answer.status_code == 422
        assert answer.json()["error"]
