"""Requests of other sites are refused, and browsers are told to load nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from distill.serve import app
from tests.serve.conftest import png

PAGE = Path(app.__file__).parent / "page"


def test_every_answer_keeps_browsers_strict(client: TestClient) -> None:
    for address in ("/", "/page.js", "/api/runs", "/api/images/none", "/nothing"):
        headers = client.get(address).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_the_page_names_no_other_place(client: TestClient) -> None:
    for path in PAGE.iterdir():
        served = client.get("/" if path.name == "page.html" else f"/{path.name}")
        assert served.content == path.read_bytes()
        assert not re.search(r"(https?:)?//[a-z]", path.read_text().replace("http://www.w3.org/2000/svg", ""))
    assert not re.search(r" (style|on\w+)=", (PAGE / "page.html").read_text())  # which the policy would block


def test_there_are_no_pages_that_load_scripts_from_elsewhere(client: TestClient) -> None:
    assert [client.get(address).status_code for address in ("/docs", "/redoc", "/openapi.json")] == [404] * 3


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "192.168.1.7"])
def test_its_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "[x]"]
)
def test_a_foreign_name_that_points_here_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/runs", headers={"host": host})
    assert answer.status_code == 403
    assert "does not answer for the host" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"origin": "http://[evil"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_can_neither_send_nor_ask(client: TestClient, place: Path, headers: dict[str, str]) -> None:
    for answer in (
        client.post("/api/images", content=png(), headers=headers),
        client.get("/api/runs", headers=headers),
    ):
        assert answer.status_code == 403
        assert "open this server's own page" in answer.json()["error"]
    assert not list(place.iterdir())


def test_the_own_page_can(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/api/images", content=png(), headers=own).status_code == 202


def test_others_may_have_a_link_to_the_page(client: TestClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    assert client.get("/", headers=followed | {"sec-fetch-dest": "iframe"}).status_code == 403
    assert client.get("/api/runs", headers=followed).status_code == 403
