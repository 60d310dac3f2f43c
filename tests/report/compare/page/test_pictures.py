import copy

import pytest

pytestmark = pytest.mark.xdist_group("chromium")


def test_a_picture_opens_moves_and_closes(tab) -> None:
    pictures, dialog = tab.locator("#s0 .picture"), tab.locator("#s0 dialog")
    assert pictures.count() == 4 * 7
    pictures.nth(3).click()
    assert dialog.is_visible()
    assert dialog.locator("header strong").inner_text() == "images/000.jpg"
    assert dialog.locator("figcaption").all_inner_texts() == [
        "ground truth",
        "RS4D tiny · distilled · prediction\n4 of 7 objects found",
    ]
    tab.keyboard.press("ArrowRight")
    assert "VMamba tiny · scratch" in dialog.inner_text()
    tab.keyboard.press("ArrowDown")
    assert dialog.locator("header strong").inner_text() == "images/001.jpg"
    dialog.get_by_text("Previous").click()
    assert "RS4D tiny · distilled" in dialog.inner_text()
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_picture_opens_by_key_and_gives_the_focus_back(tab) -> None:
    picture = tab.locator("#s0 .picture").first
    picture.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#s0 dialog").is_visible()
    tab.keyboard.press("ArrowLeft")  # there is none before
    tab.get_by_role("button", name="Close").click()
    assert not tab.locator("#s0 dialog").is_visible()
    assert picture.evaluate("one => one === document.activeElement")


def test_names_and_truth_stay_in_sight(tab) -> None:
    heads = tab.locator("#s0 table.pictures thead th")
    assert heads.all_inner_texts()[:3] == ["input", "ground truth", "RS4D tiny · scratch"]
    box = tab.locator("#s0 .pictures-part .scroll")
    box.evaluate("one => one.scrollTo(0, 300)")
    assert heads.nth(2).bounding_box()["y"] == pytest.approx(box.bounding_box()["y"], abs=2)


def test_feature_maps_are_shown_as_squares(tab) -> None:
    image = tab.locator("#s1 .picture img").nth(1)
    assert image.evaluate("one => [one.naturalWidth, getComputedStyle(one).imageRendering]") == [16, "pixelated"]
    assert tab.locator("#s1 table.pictures tbody tr").first.locator("img").count() == 2 + 2 * 3


def test_models_are_picked(tab) -> None:
    part = tab.locator("#s0 .pictures-part")
    part.locator("summary").click()
    part.get_by_label("RS4D tiny · scratch").uncheck()
    assert part.locator(".picture").count() == 4 * 6


def test_a_missing_picture_is_said_in_words(open_page, content: dict) -> None:
    broken = copy.deepcopy(content)
    picture = broken["sections"][0]["pictures"][0]
    picture["rows"]["r1"]["parts"]["prediction"] = "runs/gone.png"
    del picture["rows"]["r2"]
    part = open_page(broken).locator("#s0 table.pictures")
    assert "runs/gone.png is missing" in part.inner_text()
    assert "no picture of this image" in part.inner_text()
    assert part.locator(".picture").count() == 4 * 7 - 2
