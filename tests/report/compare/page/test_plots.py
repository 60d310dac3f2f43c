import pytest

pytestmark = pytest.mark.xdist_group("chromium")

MINUS = "\N{MINUS SIGN}"


def ticks(tab, plot: str, anchor: str) -> list[str]:
    return tab.locator(f"#s0 {plot} .axis text[text-anchor={anchor}]:not(.title)").all_text_contents()


def places(tab) -> list[float]:
    """Where the points of the first plot stand, from left to right."""
    return [box["x"] for box in (point.bounding_box() for point in tab.locator("#s0 .pareto .point .marker").all())]


def test_the_cost_is_switched(tab) -> None:
    plot = tab.locator("#s0 .pareto")
    assert "CPU latency (ms)" in plot.locator(".plot").inner_text()
    assert plot.locator(".point").count() == 5
    before = places(tab)
    plot.locator("select").select_option("memory_mb")
    assert "peak memory (MB)" in plot.locator(".plot").inner_text()
    assert plot.locator(".point").count() == 4  # one has no memory
    assert places(tab) != before


def test_the_axis_becomes_logarithmic(tab) -> None:
    assert ticks(tab, ".pareto", "middle")[0] == "0"
    assert not tab.locator("#s0 .pareto").get_by_label("logarithmic").is_checked()
    tab.locator("#s0 .pareto").get_by_label("logarithmic").check()
    shown = [float(text) for text in ticks(tab, ".pareto", "middle")]
    assert shown[0] > 0
    assert 3 <= len(shown) <= 12
    xs = dict(zip(("r0", "r1", "r2", "r3", "r4"), places(tab), strict=True))
    # 21.4, 71.8 and 26 ms: equal ratios are equal distances.
    assert xs["r1"] == pytest.approx(xs["r0"])
    assert (xs["r4"] - xs["r0"]) / (xs["r2"] - xs["r0"]) == pytest.approx(0.1608, abs=0.01)


def test_a_point_says_its_numbers_on_hover_and_on_focus(tab) -> None:
    point, tip = tab.locator("#s0 .pareto .point[data-row=r3]"), tab.locator("#tip")
    point.scroll_into_view_if_needed()
    point.hover()
    for text in ("VMamba tiny · distilled", "mask AP: 4", "CPU latency: 71.8 ms", "seed 1:", "timed on another CPU"):
        assert text in tip.inner_text()
    tab.mouse.move(5, 5)
    assert not tip.is_visible()
    point.focus()
    assert "VMamba tiny · distilled" in tip.inner_text()


def test_seeds_frontier_arrows_and_the_teacher_are_drawn(tab) -> None:
    plot = tab.locator("#s0 .pareto")
    assert plot.locator(".seed").count() == 15
    assert plot.locator(".bar").count() == 5
    assert plot.locator(".frontier").count() == 1
    assert plot.locator(".arrow").count() == 2
    assert "SAM ViT-B: 52." in plot.locator(".reference").text_content()
    assert plot.locator(".point[data-row=r5]").count() == 0
    plot.get_by_label("teacher's cost").check()
    assert plot.locator(".point[data-row=r5]").count() == 1
    assert plot.get_by_label("logarithmic").is_checked()


def test_markers_tell_the_initialisation_without_colour(tab) -> None:
    def shape(row: str) -> str:
        drawn = tab.locator(f"#s0 .models tr[data-row={row}] .glyph > *")
        return drawn.evaluate("one => one.tagName + ' ' + one.className.baseVal")

    assert [shape(f"r{i}") for i in (0, 1, 4, 5)] == [
        "circle marker hollow",
        "circle marker full",
        "rect marker full",
        "path marker full",
    ]


def test_labels_do_not_cover_each_other(tab) -> None:
    boxes = [label.bounding_box() for label in tab.locator("#s0 .pareto .label").all()]
    assert len(boxes) == 5
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
            assert apart or a["y"] + a["height"] <= b["y"] + 3 or b["y"] + b["height"] <= a["y"] + 3


def test_curves_switch_metric_and_axis(tab) -> None:
    curves = tab.locator("#s0 .curves")
    assert "optimizer step" in curves.locator(".plot").inner_text()
    assert ticks(tab, ".curves", "middle")[-1] == "12000"
    curves.get_by_label("by").select_option("hours")
    assert "hours of training" in curves.locator(".plot").inner_text()
    assert float(ticks(tab, ".curves", "middle")[-1]) < 10
    curves.get_by_label("metric").select_option("1")
    assert "training loss, lower is better" in curves.locator(".plot").inner_text()
    assert curves.locator(".band").count() == 5


def test_the_legend_hides_lines(tab) -> None:
    curves = tab.locator("#s0 .curves")
    button = curves.locator(".legend button").first
    assert curves.locator(".plot .line").count() == 5
    button.focus()
    tab.keyboard.press("Enter")
    assert curves.locator(".plot .line").count() == 4
    assert button.get_attribute("aria-pressed") == "false"
    tab.keyboard.press("Enter")  # the focus stayed
    assert curves.locator(".plot .line").count() == 5


def test_curves_say_their_values_under_the_pointer_and_by_keys(tab) -> None:
    area, tip = tab.locator("#s0 .curves .area"), tab.locator("#tip")
    area.focus()
    assert "step 12000" in tip.inner_text()
    tab.keyboard.press("ArrowLeft")
    assert "step 11400" in tip.inner_text()
    assert "VMamba tiny · distilled: 4" in tip.inner_text().split("\n")[2]  # the best comes first
    area.hover(position={"x": 1, "y": 50})
    assert "step 600" in tip.inner_text()


def test_the_image_independent_baseline_is_named(tab) -> None:
    assert tab.locator("#s1 .curves .reference").text_content() == "image-independent baseline: 1.0000"
    assert tab.locator("#s0 .curves .reference").count() == 0


def test_bars_of_classes_go_both_ways(tab) -> None:
    bars = tab.locator("#s0 .difference-bar")
    cell = tab.locator("#s0 .bars").first.bounding_box()
    zero = cell["x"] + cell["width"] / 2
    differences = tab.locator("#s0 .by-class td[data-key=difference]").all_inner_texts()
    assert {text[0] for text in differences} == {"+", MINUS}
    for text, bar in zip(differences, bars.all(), strict=True):
        box = bar.bounding_box()
        if text[0] == "+":
            assert box["x"] == pytest.approx(zero, abs=13)
        else:
            assert box["x"] + box["width"] == pytest.approx(zero, abs=13)


def test_looking_at_a_model_lets_the_others_step_back(tab) -> None:
    tab.locator("#s0 tr[data-row=r1] button.model").hover()
    assert tab.locator("#s0 .curves .line.faint").count() == 4
    tab.locator("h1").hover()
    assert tab.locator("#s0 .faint").count() == 0
