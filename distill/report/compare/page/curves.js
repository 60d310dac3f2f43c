// Learning curves by step or by hours, with bands from the lowest to the highest seed.

function curvesPart(state) {
  const { curves } = state.section;
  if (!curves.length) return empty("Learning curves", "No run has logged a curve.");
  // A run that was validated once has a point, which says less than a curve.
  let curve = curves.find(({ lines }) => lines.some(({ step }) => step.length > 1)) ?? curves[0];
  let axis = "step";
  const off = new Set();
  const legend = html("div", { class: "legend lines" });
  const caption = html("figcaption");
  const { box, redraw } = plot("Learning curves", draw);
  box.append(html("p", { class: "unseen" }, "With the plot focused, the arrow keys move along the curves."));
  let guide = null; // the x that the reader points at

  function shownLines() {
    return curve.lines.filter((line) => state.visible.has(line.row) && !off.has(line.row) && line[axis]);
  }

  function draw(root, width) {
    drawLegend();
    const lines = shownLines();
    const without = curve.lines
      .filter((line) => state.visible.has(line.row) && !line[axis])
      .map((line) => nameOf(state, line.row));
    const seeds = lines.some((line) => line.low);
    caption.textContent = [
      seeds ? "Lines: mean over seeds; bands: lowest to highest seed." : "",
      without.length ? `Hours were not recorded by ${without.join(", ")}.` : "",
    ]
      .filter(Boolean)
      .join(" ");
    if (!lines.length) {
      root.replaceChildren();
      return;
    }
    const xs = lines.flatMap((line) => line[axis]);
    const ys = lines.flatMap((line) => [...line.mean, ...(line.low ?? []), ...(line.high ?? [])]);
    if (isNumber(curve.reference)) ys.push(curve.reference);
    const arrow = curve.better === "min" ? ", lower is better" : "";
    const frame = axes(root, {
      width,
      height: Math.max(300, Math.min(440, width * 0.72)),
      x: { domain: [0, Math.max(...xs) || 1], title: axis === "step" ? "optimizer step" : "hours of training" },
      y: { domain: extent(ys.filter(isNumber).map((y) => y / curve.scale)), title: `${heading(curve)}${arrow}` },
    });
    const { across, up } = frame;
    const place = (line, values) =>
      values.flatMap((y, i) =>
        isNumber(y) && isNumber(line[axis][i]) ? [`${across(line[axis][i])} ${up(y / curve.scale)}`] : [],
      );
    for (const line of lines) {
      if (!line.low || !line.high) continue;
      const edges = [...place(line, line.low), ...place(line, line.high).reverse()];
      root.append(svg("path", { class: "band", "data-row": line.row, style: colour(line), d: `M${edges.join("L")}Z` }));
    }
    if (isNumber(curve.reference)) {
      const y = up(curve.reference / curve.scale);
      root.append(
        svg(
          "g",
          { class: "reference" },
          svg("line", { x1: frame.left, x2: frame.right, y1: y, y2: y }),
          svg(
            "text",
            { x: frame.right, y: y - 6, "text-anchor": "end" },
            `image-independent baseline: ${number(curve.reference, curve)}`,
          ),
        ),
      );
    }
    for (const line of lines) {
      const points = place(line, line.mean);
      if (points.length === 1) {
        const [x, y] = points[0].split(" ");
        root.append(
          svg(
            "g",
            { "data-row": line.row, transform: `translate(${x} ${y})` },
            marker(state, state.rows.get(line.row), 4),
          ),
        );
      } else if (points.length) {
        root.append(
          svg("path", {
            class: "line",
            "data-row": line.row,
            style: colour(line),
            "stroke-dasharray": dashes(state, state.rows.get(line.row)),
            d: `M${points.join("L")}`,
          }),
        );
      }
    }
    listen(root, frame, lines);
  }

  function colour(line) {
    return { "--c": state.colours.get(line.row) };
  }

  function listen(root, frame, lines) {
    const mark = svg("line", { class: "guide", y1: frame.top, y2: frame.bottom, visibility: "hidden" });
    const area = svg("rect", {
      class: "area",
      tabindex: "0",
      role: "img",
      "aria-label": `${curve.name}, values on hover and with the arrow keys`,
      x: frame.left,
      y: frame.top,
      width: frame.right - frame.left,
      height: frame.bottom - frame.top,
    });
    const stops = [...new Set(lines.flatMap((line) => line[axis]))].filter(isNumber).sort((a, b) => a - b);
    const point = (x) => {
      guide = stops.reduce((best, stop) => (Math.abs(stop - x) < Math.abs(best - x) ? stop : best), stops[0]);
      mark.setAttribute("x1", frame.across(guide));
      mark.setAttribute("x2", frame.across(guide));
      mark.setAttribute("visibility", "visible");
      showTip(mark, valuesAt(lines));
    };
    const leave = () => {
      mark.setAttribute("visibility", "hidden");
      hideTip();
    };
    area.addEventListener("pointermove", (event) =>
      point(frame.across.invert(event.clientX - root.getBoundingClientRect().left)),
    );
    area.addEventListener("pointerleave", leave);
    area.addEventListener("focus", () => point(guide ?? stops.at(-1)));
    area.addEventListener("blur", leave);
    area.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = stops[stops.indexOf(guide) + step];
      if (next !== undefined) point(next);
    });
    root.append(mark, area);
  }

  /** The value of each line nearest to the guide, the best first. */
  function valuesAt(lines) {
    const found = lines
      .map((line) => {
        let i = 0;
        line[axis].forEach((x, j) => {
          if (Math.abs(x - guide) < Math.abs(line[axis][i] - guide)) i = j;
        });
        return { line, mean: line.mean[i], low: line.low?.[i], high: line.high?.[i] };
      })
      .filter(({ mean }) => isNumber(mean));
    const sign = curve.better === "min" ? 1 : -1;
    found.sort((a, b) => sign * (a.mean - b.mean));
    const said = axis === "step" ? `step ${guide}` : `${Number(guide.toPrecision(3))} hours`;
    return [
      html("strong", {}, said),
      ...found.slice(0, 12).map(({ line, mean, low, high }) => {
        const range = isNumber(low) && isNumber(high) ? ` (${number(low, curve)} to ${number(high, curve)})` : "";
        return html(
          "p",
          { class: "entry" },
          glyph(state, state.rows.get(line.row)),
          `${nameOf(state, line.row)}: ${withUnit(number(mean, curve), curve)}${range}`,
        );
      }),
      found.length > 12 ? `and ${found.length - 12} more` : null,
    ];
  }

  function drawLegend() {
    const focused = legend.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    legend.replaceChildren(
      ...curve.lines
        .filter((line) => state.visible.has(line.row))
        .map((line) => {
          const sample = svg(
            "svg",
            { width: 26, height: 10, "aria-hidden": "true" },
            svg("path", {
              class: "line",
              style: colour(line),
              "stroke-dasharray": dashes(state, state.rows.get(line.row)),
              d: "M1 5H25",
            }),
          );
          return html(
            "button",
            {
              type: "button",
              "data-row": line.row,
              "aria-pressed": String(!off.has(line.row)),
              on: { click: () => toggle(line.row) },
            },
            sample,
            nameOf(state, line.row),
            line.n > 1 ? ` (${line.n} seeds)` : "",
          );
        }),
    );
    if (focused) [...legend.children].find((one) => one.dataset.row === focused)?.focus();
  }

  function toggle(row) {
    if (!off.delete(row)) off.add(row);
    redraw();
  }

  state.changed.push(redraw);
  const metric =
    curves.length > 1
      ? choice(
          "metric",
          curves.map((one, i) => [String(i), one.name]),
          String(curves.indexOf(curve)),
          (i) => {
            curve = curves[Number(i)];
            guide = null;
            redraw();
          },
        )
      : null;
  const timed = curves.some((one) => one.lines.some((line) => line.hours));
  const by = timed
    ? choice(
        "by",
        [
          ["step", "step"],
          ["hours", "hours"],
        ],
        axis,
        (key) => {
          axis = key;
          guide = null;
          redraw();
        },
      )
    : null;
  return html(
    "figure",
    { class: "curves" },
    html("h3", {}, curves.length > 1 ? "Learning curves" : `Learning curve: ${curve.name}`),
    html("div", { class: "controls" }, metric, by),
    box,
    legend,
    caption,
  );
}
