"""Several users: one image at a time, in order, each with its own results; a queue that says how long it is."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from distill.errors import UserError
from distill.serve import work
from distill.serve.work import Worker
from tests.serve.conftest import FakeRun, png, sent, settled, until


def test_users_at_once_get_their_own_results_one_after_the_other(client: TestClient, runs: list[FakeRun]) -> None:
    def use(red: int) -> tuple[int, list[float]]:
        told = settled(client, sent(client, png(red=red), f"{red}.png"))
        assert told["name"] == f"{red}.png"
        return red, [found["counts"]["ship"] for found in told["results"]]

    with ThreadPoolExecutor(4) as users:
        for red, counts in users.map(use, range(10, 22)):
            assert counts == [red, red]
    assert [run.most_active for run in runs] == [1, 1]


def test_who_waits_is_told_how_many_come_before(client: TestClient, runs: list[FakeRun], place: Path) -> None:
    runs[0].gate.clear()
    first, second, third = (sent(client, png(red)) for red in (1, 2, 3))
    until(lambda: client.get(f"/api/images/{first}").json()["state"] == "predicting")
    assert client.get(f"/api/images/{first}").json() == {
        "state": "predicting", "name": "a.png", "run": "first", "done": 1, "total": 2,
    }  # fmt: skip
    assert client.get(f"/api/images/{second}").json()["ahead"] == 1
    assert client.get(f"/api/images/{third}").json()["ahead"] == 2
    assert client.get(f"/api/images/{third}/0/shown").status_code == 404
    client.delete(f"/api/images/{second}")
    assert client.get(f"/api/images/{third}").json()["ahead"] == 1
    runs[0].gate.set()
    assert [found["counts"]["ship"] for found in settled(client, third)["results"]] == [3, 3]
    assert client.get(f"/api/images/{second}").status_code == 404
    assert len(list(place.iterdir())) == 2


def test_one_that_is_removed_meanwhile_has_nothing_before_it_to_tell(
    worker: Worker, runs: list[FakeRun], place: Path
) -> None:
    runs[0].gate.clear()
    jobs = [worker.submit(place / str(number), place / "none", "a.png") for number in range(2)]
    worker.remove(jobs[1].id)
    assert worker.ahead(jobs[1]) <= 1


def test_a_queue_that_is_full_says_so(client: TestClient, runs: list[FakeRun], place: Path) -> None:
    runs[0].gate.clear()
    first = sent(client, png())
    until(lambda: client.get(f"/api/images/{first}").json()["state"] == "predicting")
    for _ in range(work.MOST_WAITING):
        last = sent(client, png())
    answer = client.post("/api/images", content=png())
    assert answer.status_code == 503
    assert answer.json()["error"] == "8 images are waiting already; try again in a minute"
    assert len(list(place.iterdir())) == 1 + work.MOST_WAITING
    runs[0].gate.set()
    assert settled(client, last)["state"] == "done"
    assert client.post("/api/images", content=png()).status_code == 202


def test_one_run_may_fail_where_another_does_not(client: TestClient, runs: list[FakeRun]) -> None:
    runs[0].fault = UserError("it has one band, and the run wants three")
    told = settled(client, sent(client, png()))
    assert told["state"] == "done"
    assert told["results"][0] == {"error": "it has one band, and the run wants three"}
    assert told["results"][1]["counts"]["building"] == 1


def test_what_nobody_expected_is_one_line_and_stands_in_the_log(
    client: TestClient, runs: list[FakeRun], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs[1].fault = RuntimeError("out of memory\nat 0x123")
    with caplog.at_level(logging.ERROR):
        told = settled(client, sent(client, png()))
    assert told["results"][1]["error"] == (
        "the image cannot be predicted (RuntimeError: out of memory); see the server's log"
    )
    assert "Traceback" in caplog.text
    runs[1].predict = lambda image, out, advance: image.rename(out / "none" / "there")
    error = settled(client, sent(client, png()))["results"][1]["error"]
    assert "(FileNotFoundError: " in error
    assert str(place) not in error
    del runs[1].predict
    runs[1].fault = None
    assert "counts" in settled(client, sent(client, png()))["results"][1]


def test_an_image_that_is_removed_while_it_is_predicted_leaves_nothing(
    client: TestClient, runs: list[FakeRun], place: Path
) -> None:
    runs[0].gate.clear()
    identity = sent(client, png())
    until(lambda: client.get(f"/api/images/{identity}").json()["state"] == "predicting")
    client.delete(f"/api/images/{identity}")
    runs[0].gate.set()
    until(lambda: not list(place.iterdir()))


def test_only_so_many_results_are_kept(
    client: TestClient, worker: Worker, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_KEPT", 2)
    images = []
    for red in range(5):
        images.append(sent(client, png(red)))
        settled(client, images[-1])
    assert [worker.job(identity) is not None for identity in images] == [False, False, True, True, True]
    assert len(list(place.iterdir())) == 3
