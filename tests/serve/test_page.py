"""The page in a browser, from a real server: what is drawn, compared and downloaded, and that nothing else is asked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill.errors import UserError
from tests.serve.conftest import MAX_BYTES, FakeLandCover, FakeRun, png, until

pytestmark = pytest.mark.xdist_group("chromium")

MISSING = "\N{EN DASH}"


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Opens a page; fails if it logs an error or asks anything of another host."""
    wrong: list[str] = []
    contexts = []

    def opened(address: str, **options: object):
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 1000}, **options}))
        tab = contexts[-1].new_page()
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("console", lambda message: message.type == "error" and wrong.append(f"console: {message.text}"))
        own = (address, f"blob:{address}")
        tab.on("request", lambda asked: asked.url.startswith(own) or wrong.append(asked.url[:80]))
        tab.goto(address)
        tab.locator("#limits:not(:empty)").wait_for()
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def send(tab, content: bytes, name: str = "scene.png") -> None:
    tab.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def colour_at(tab, x: float, y: float) -> list[int]:
    """Red, green, blue and alpha of the masks at a point of the image, which is 120 x 80."""
    return tab.evaluate(
        """([x, y]) => {
          const canvas = document.getElementById("masks");
          const at = [(x / 120) * canvas.width, (y / 80) * canvas.height].map(Math.round);
          return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
        }""",
        [x, y],
    )


def slide(tab, identity: str, value: float) -> None:
    tab.locator(f"#{identity}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def rows(tab) -> list[list[str]]:
    return [row.replace("\n", "").split("\t") for row in tab.locator("#legend tbody tr").all_inner_texts()]


def test_masks_are_drawn_compared_and_downloaded(serve: Callable, open_page: Callable) -> None:
    tab = open_page(serve([FakeRun("first"), FakeRun("second")]))
    send(tab, png(red=7))
    tab.locator("#result").wait_for()
    assert tab.locator("#name").inner_text() == "scene.png, 120 \N{MULTIPLICATION SIGN} 80 pixels"
    until(lambda: tab.evaluate("document.getElementById('picture').naturalWidth") == 120)
    assert colour_at(tab, 25, 25)[3] > 0  # the ship, on the left
    assert colour_at(tab, 75, 35)[3] > 0  # the building, on the right
    assert colour_at(tab, 110, 70)[3] == 0
    assert rows(tab) == [["ship", "1", "1"], ["building", "1", "1"]]
    slide(tab, "score", 0.5)
    assert colour_at(tab, 25, 25)[3] > 0
    assert colour_at(tab, 75, 35)[3] == 0
    assert rows(tab) == [["ship", "1", "1"], ["building", MISSING, MISSING]]
    with tab.expect_download() as waiting:
        tab.locator("#downloads a").first.click()
    assert waiting.value.suggested_filename == "predictions.json"
    assert [one["score"] for one in json.loads(Path(waiting.value.path()).read_text())] == [0.9]
    tab.select_option("#right", "-1")
    slide(tab, "split", 0)
    assert colour_at(tab, 25, 25)[3] == 0
    tab.locator("#split").focus()
    for _ in range(2):
        tab.keyboard.press("End")  # with the keyboard back to the first run
    assert colour_at(tab, 25, 25)[3] > 0
    box = tab.locator("#stage").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 25 / 120, box["y"] + box["height"] * 25 / 80)
    assert tab.locator("#under").inner_text() == "ship, score 0.90"
    tab.locator("#class-0").uncheck()
    assert colour_at(tab, 25, 25)[3] == 0
    notes = tab.locator("#notes li").all_inner_texts()
    assert notes == ["first took 0.5 s, second took 0.5 s", "scene is odd"]


def test_classes_of_two_runs_go_by_their_names(serve: Callable, open_page: Callable) -> None:
    runs = [FakeRun("first"), FakeRun("second")]
    runs[1].class_names = ["building", "ship"]
    tab = open_page(serve(runs))
    send(tab, png())
    tab.locator("#result").wait_for()
    slide(tab, "score", 0.5)
    assert rows(tab) == [["ship", "1", MISSING], ["building", MISSING, "1"]]
    assert tab.locator("#legend .square").count() == 4  # the colours of both runs
    slide(tab, "score", 0.3)
    tab.locator("#class-0").uncheck()
    assert colour_at(tab, 25, 25)[3] == 0  # the first run's ship, on the left
    assert colour_at(tab, 75, 35)[3] == 0  # the second run's, on the right
    tab.select_option("#left", "1")
    assert colour_at(tab, 25, 25)[3] > 0  # its building


def test_a_class_map_is_drawn_and_downloaded(serve: Callable, open_page: Callable) -> None:
    tab = open_page(serve([FakeLandCover("cover")]))
    send(tab, png())
    tab.locator("#result").wait_for()
    assert not tab.locator("#scores").is_visible()
    left, right = colour_at(tab, 20, 50), colour_at(tab, 100, 50)
    assert left[3] == right[3] > 0
    assert left[:3] != right[:3]
    assert colour_at(tab, 20, 4)[3] == 0  # no data
    assert rows(tab) == [["ship", "50.0 %"], ["building", "50.0 %"]]
    box = tab.locator("#stage").bounding_box()
    for y, said in ((0.05, "no data"), (0.6, "building")):
        tab.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * y)
        assert tab.locator("#under").inner_text() == said
    with tab.expect_download() as waiting:
        tab.locator("#downloads a").click()
    assert waiting.value.suggested_filename == "map.tif"


def test_errors_are_one_line_and_the_next_image_works(serve: Callable, open_page: Callable) -> None:
    runs = [FakeRun('<img src=x onerror="alert(1)">'), FakeRun("second")]
    runs[1].fault = UserError("it wants three bands")
    tab = open_page(serve(runs))
    send(tab, bytes(MAX_BYTES + 1), "<b>big</b>.png")
    assert tab.locator("#error").inner_text() == "<b>big</b>.png has 1 MB, and 1 MB are allowed here."
    send(tab, png()[: len(png()) // 2], "half.png")
    until(lambda: "half.png" in tab.locator("#error").inner_text())
    assert "is damaged" in tab.locator("#error").inner_text()
    assert not tab.locator("#result").is_visible()
    send(tab, png())
    tab.locator("#result").wait_for()
    assert not tab.locator("#error").is_visible()
    assert tab.locator("#notes .red").inner_text() == "second: it wants three bands"
    assert tab.locator("#left-name").inner_text() == runs[0].name
    assert tab.locator("main img").count() == 1


def test_narrow_screens_and_both_schemes(serve: Callable, open_page: Callable) -> None:
    tab = open_page(serve([FakeRun("x" * 60), FakeRun("y" * 60)]), viewport={"width": 390, "height": 844})
    send(tab, png(), "z" * 60 + ".png")
    tab.locator("#result").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    for scheme in ("dark", "light"):
        tab.emulate_media(color_scheme=scheme)
        ground = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        shades = [int(part) for part in ground.strip("rgb()").split(",")]
        assert max(shades) < 64 if scheme == "dark" else min(shades) > 240
