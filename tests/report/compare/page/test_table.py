import json
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.xdist_group("chromium")

MISSING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def stored(tab) -> dict:
    return json.loads(tab.locator("#content").text_content())


def names(tab) -> list[str]:
    return tab.locator("#s0 button.model:visible").all_inner_texts()


def header(tab, key: str):
    return tab.locator(f"#s0 .models > thead th[data-column='{key}']")


def people_read(value: float | None, shown: dict, signed: bool = False) -> str:
    """A number as Python writes it, with the page's minus sign."""
    if value is None:
        return MISSING
    text = f"{abs(value / shown['scale']):.{shown['digits']}f}"
    return (MINUS if value < 0 else "+" if signed else "") + text


def cell_text(value: dict, column: dict) -> str:
    if "missing" in value:
        return MISSING
    signed = column["group"] == "gain"
    text = people_read(value["mean"], column, signed)
    if signed and value["low"] is not None:
        text += f" [{people_read(value['low'], column, True)}, {people_read(value['high'], column, True)}]"
    if column["group"] == "quality" and value["sd"] is not None:
        text += f" ± {people_read(value['sd'], column)}"
    return text


def cells(tab, selector: str) -> Iterator[tuple[dict, str]]:
    found = tab.locator(selector).evaluate_all("all => all.map(one => [{...one.dataset}, one.textContent])")
    assert found
    yield from found


def test_every_number_of_the_table_is_that_of_the_content(tab) -> None:
    content = stored(tab)
    checked = 0
    for section in content["sections"]:
        rows = {row["id"]: row for row in section["rows"]}
        columns = {column["key"]: column for column in section["columns"]}
        for data, text in cells(tab, f"#{section['id']} .models td[data-column]"):
            column, value = columns[data["column"]], rows[data["row"]]["values"][data["column"]]
            expected = cell_text(value, column)
            if column["key"] == section["quality"]:
                expected += f" n={value['n']}"
            if value.get("flag"):
                expected = "⚠" + expected
            assert text == expected, (data, value)
            checked += 1
    assert checked == sum(len(section["rows"]) * len(section["columns"]) for section in content["sections"])


def test_every_number_of_the_seeds_and_classes_is_that_of_the_content(tab) -> None:
    section = stored(tab)["sections"][0]
    for button in tab.locator("#s0 button.model").all():
        button.click()
    rows = {row["id"]: row for row in section["rows"]}
    columns = {column["key"]: column for column in section["columns"]}
    for data, text in cells(tab, "#s0 .seeds td[data-column]"):
        column = columns[data["column"]]
        each = dict(rows[data["row"]]["values"][column["key"]]["each"])
        assert text == people_read(each[int(data["seed"])], column, column["group"] == "gain")
    classes = section["classes"]
    for number, pair in enumerate(classes["pairs"]):
        tab.locator("#s0 .classes select").select_option(str(number))
        for data, text in cells(tab, "#s0 .by-class td[data-class]"):
            value = pair["classes"][int(data["class"])][data["key"]]
            assert text == people_read(value, classes, data["key"] == "difference")


def test_ties_are_rounded_as_in_the_other_files(tab) -> None:
    values = [12.25, 12.35, 0.125, 2.5, 3.5, -0.25, 1.45, 1.85, 0.3125, 1e-9, 7.05]
    for digits in range(4):
        shown = {"scale": 1, "digits": digits}
        texts = tab.evaluate("([values, shown]) => values.map((value) => number(value, shown))", [values, shown])
        assert texts == [people_read(value, shown) for value in values]


def test_a_header_sorts_both_ways_with_missing_values_last(tab) -> None:
    section = stored(tab)["sections"][0]

    def by(key: str, sign: int) -> list[str]:
        def place(row: dict) -> tuple[bool, float]:
            mean = row["values"][key].get("mean")
            return mean is None, sign * (mean or 0)

        return [row["name"] for row in sorted(section["rows"], key=place)]

    header(tab, "mask/AP").locator("button").click()
    assert names(tab) == by("mask/AP", -1)
    assert header(tab, "mask/AP").get_attribute("aria-sort") == "descending"
    header(tab, "mask/AP").locator("button").click()
    assert names(tab) == by("mask/AP", 1)
    header(tab, "memory_mb").locator("button").click()
    assert names(tab) == by("memory_mb", 1)
    assert header(tab, "memory_mb").get_attribute("aria-sort") == "ascending"
    assert header(tab, "mask/AP").get_attribute("aria-sort") == "none"
    header(tab, "").locator("button").click()
    assert names(tab) == sorted(names(tab))


def test_the_filter_reaches_table_and_plots(tab) -> None:
    tab.locator("#s0 input[type=search]").fill("rs4d DISTILLED")
    assert names(tab) == ["RS4D tiny · distilled"]
    assert tab.locator("#s0 .count").inner_text() == "1 of 6 models"
    assert tab.locator("#s0 .pareto .point").count() == 1
    assert tab.locator("#s1 .pareto .point").count() == 3
    tab.locator("#s0 input[type=search]").fill("no such model")
    assert names(tab) == []
    tab.locator("#s0 input[type=search]").fill("")
    assert len(names(tab)) == 6


def test_dominated_models_are_named_and_can_be_hidden(tab) -> None:
    row = tab.locator("#s0 tr[data-row=r2]")
    assert "dominated" in row.inner_text()
    row.locator(".chip").hover()
    assert "Dominated by RS4D tiny · distilled, ConvNeXt femto · pretrained" in tab.locator("#tip").inner_text()
    tab.get_by_label("Hide dominated").check()
    assert not [name for name in names(tab) if "scratch" in name]


def test_columns_are_picked(tab) -> None:
    cell = tab.locator("#s0 tr[data-row=r1] > td[data-column='size_mb']")
    assert not cell.is_visible()
    tab.locator("#s0 .table-part .picker summary").click()
    tab.locator("#s0 .table-part .picker").get_by_label("file size").check()
    tab.locator("#s0 .table-part .picker").get_by_label("parameters").uncheck()
    assert cell.is_visible()
    assert header(tab, "size_mb").is_visible()
    assert not header(tab, "params").is_visible()


def test_hovering_says_seeds_and_why_a_value_is_red_or_missing(tab) -> None:
    value = stored(tab)["sections"][0]["rows"][3]["values"]["mask/AP"]
    row = tab.locator("#s0 tr[data-row=r3]")
    tip = tab.locator("#tip")
    row.locator("td[data-column='mask/AP']").hover()
    ends = [f"{value[end] * 100:.1f}" for end in ("min", "max")]
    assert f"n = 3, from {ends[0]} to {ends[1]} %" in tip.inner_text()
    assert f"seed 2: {value['each'][2][1] * 100:.1f}" in tip.inner_text()
    row.locator("td[data-column=cpu_ms]").hover()
    assert "timed on another CPU" in tip.inner_text()
    tab.locator("#s0 tr[data-row=r4] td[data-column=memory_mb]").hover()
    assert "made by an earlier version" in tip.inner_text()
    tab.mouse.move(5, 5)
    assert not tip.is_visible()


def test_the_best_are_bold_and_flags_are_said_in_words(tab) -> None:
    weight = "one => getComputedStyle(one).fontWeight"
    assert tab.locator("#s0 tr[data-row=r3] td[data-column='mask/AP'] .mean").evaluate(weight) == "700"
    assert tab.locator("#s0 tr[data-row=r5] td[data-column='mask/AP'] .mean").evaluate(weight) == "400"
    assert "different machines" in tab.locator("#s0 > .notes .red").first.inner_text()
    assert "reference" in tab.locator("#s0 tr[data-row=r5]").inner_text()


def test_the_keyboard_sorts_opens_rows_and_walks_over_cells(tab) -> None:
    header(tab, "box/AP").locator("button").focus()
    tab.keyboard.press("Enter")
    assert header(tab, "box/AP").get_attribute("aria-sort") == "descending"
    for _ in range(30):  # over the other headers to the first model
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.classList.contains('model')"):
            break
    tab.keyboard.press("Enter")
    opened = tab.locator("#s0 .opened")
    assert "distill fit recipes/nwpu.yaml" in opened.inner_text()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#tip").inner_text().startswith("mask AP: ")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.dataset.row") == "r3"
    tab.keyboard.press("Escape")
    assert not tab.locator("#tip").is_visible()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    assert opened.count() == 2


def test_a_row_copies_its_commands(tab) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.locator("#s0 button.model").nth(1).click()
    tab.locator("#s0 .commands .copy").click()
    tab.get_by_text("Copied").wait_for()
    commands = stored(tab)["sections"][0]["rows"][1]["commands"]
    assert tab.evaluate("navigator.clipboard.readText()") == "\n".join(commands)
