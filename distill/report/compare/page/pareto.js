// Quality against a cost: error bars, seeds, the frontier, scratch to distilled, the teacher as a line.

const LOG_FROM = 8; // ratio of the largest to the smallest cost from which the axis starts out logarithmic
const FIRST_COSTS = ["cpu_ms", "gpu_ms", "macs", "params"];

function paretoPart(state) {
  const { quality } = state;
  const known = (row) => isNumber(state.mean(row, quality.key));
  const costs = state.columns.filter(
    (column) =>
      column.group === "cost" && state.students().some((row) => known(row) && isNumber(state.mean(row, column.key))),
  );
  if (!costs.length) return empty("Quality against cost", "No model has both a quality and a cost.");
  let cost = FIRST_COSTS.map((key) => costs.find((one) => one.key === key)).find(Boolean) ?? costs[0];
  let withTeacher = false;
  const spread = (column) => {
    const values = points().map((row) => state.mean(row, column.key));
    return Math.max(...values) / Math.min(...values);
  };
  const log = checkbox("logarithmic", spread(cost) > LOG_FROM, redraw);
  const teacher = checkbox("teacher's cost", false, (on) => {
    withTeacher = on;
    log.firstChild.checked ||= on;
    redraw();
  });
  const caption = html("figcaption");
  const { box, redraw: drawAgain } = plot("Quality against cost", draw);

  function points() {
    return state.section.rows.filter(
      (row) =>
        (row.role === "student" || withTeacher) &&
        state.visible.has(row.id) &&
        known(row) &&
        isNumber(state.mean(row, cost.key)),
    );
  }

  function draw(root, width) {
    const rows = points();
    teacher.hidden = !state.section.rows.some(
      (row) => row.role !== "student" && isNumber(state.mean(row, cost.key)) && known(row),
    );
    if (!rows.length) {
      root.replaceChildren();
      caption.textContent = "None of the models shown has both.";
      return;
    }
    const xs = rows.map((row) => state.mean(row, cost.key) / cost.scale);
    const logarithmic = log.firstChild.checked && Math.min(...xs) > 0;
    const frame = axes(root, {
      width,
      height: Math.max(300, Math.min(440, width * 0.72)),
      x: { domain: xDomain(xs, logarithmic), logarithmic, title: heading(cost) },
      y: { domain: yDomain(rows), title: `${heading(quality)}${quality.better === "min" ? ", lower is better" : ""}` },
    });
    const at = new Map(
      rows.map((row, i) => [
        row.id,
        { row, x: frame.across(xs[i]), y: frame.up(state.mean(row, quality.key) / quality.scale) },
      ]),
    );
    const steps = frontierOf(at);
    root.append(
      ...(steps.length > 1 ? [frontier(steps)] : []),
      ...teacherLines(frame),
      ...rows.map((row) => seeds(at.get(row.id), frame)),
      ...rows.map((row) => arrow(at, row)).filter(Boolean),
      ...rows.map((row) => point(at.get(row.id))),
      ...labels(
        [...new Set([...steps, ...at.values()])].map(({ row, x, y }) => ({ row: row.id, text: row.name, x, y })),
        frame,
        linesOf(at, steps, frame),
      ),
    );
    const folded = rows.some((row) => row.values[quality.key].n > 1);
    const named = root.querySelectorAll(".label").length;
    caption.replaceChildren(
      [
        folded ? "Bars: ± standard deviation over seeds; small dots beside them: each seed." : "",
        root.querySelector(".frontier") ? "Stepped line: the best at each budget." : "",
        root.querySelector(".arrow") ? "Arrows: from scratch to distilled." : "",
        named < rows.length ? "Names are shown where there is room, all on hover." : "",
      ]
        .filter(Boolean)
        .join(" "),
    );
  }

  function xDomain(xs, logarithmic) {
    const [low, high] = [Math.min(...xs), Math.max(...xs)];
    if (logarithmic) {
      const room = Math.max(1.3, (high / low) ** 0.12);
      return [low / room, high * room];
    }
    return [0, (high || 1) * 1.3];
  }

  function yDomain(rows) {
    const values = [...rows, ...state.teachers()].flatMap((row) => {
      const value = row.values[quality.key];
      if (!isNumber(value?.mean)) return [];
      return [value.mean - (value.sd ?? 0), value.mean + (value.sd ?? 0), ...value.each.map(([, x]) => x)];
    });
    return extent(
      values.map((value) => value / quality.scale),
      0.1,
    );
  }

  function frontierOf(at) {
    return (state.section.pareto[cost.key] ?? []).map((id) => at.get(id)).filter(Boolean);
  }

  /** Steps, since between two models there is none. */
  function frontier(steps) {
    return svg("path", {
      class: "frontier",
      d: steps.map(({ x, y }, i) => (i ? `H${x}V${y}` : `M${x} ${y}`)).join(""),
    });
  }

  /** What labels should not stand on: the frontier, the arrows, the names of teachers. */
  function linesOf(at, steps, frame) {
    const level = steps.slice(1).map(({ x }, i) => [steps[i].x, steps[i].y - 1, x, steps[i].y + 1]);
    const upright = steps
      .slice(1)
      .map(({ x, y }, i) => [x - 1, Math.min(y, steps[i].y), x + 1, Math.max(y, steps[i].y)]);
    const teachers = state
      .teachers()
      .filter(known)
      .map((row) => {
        const y = frame.up(state.mean(row, quality.key) / quality.scale);
        return [frame.right - 160, y - 18, frame.right, y + 2];
      });
    const arrows = [...at.values()]
      .filter(({ row }) => row.init === "distilled" && at.has(row.values.gain?.scratch))
      .flatMap((to) => {
        const from = at.get(to.row.values.gain.scratch);
        const middle = bowed(from, to);
        const on = (t, key) => (1 - t) ** 2 * from[key] + 2 * t * (1 - t) * middle[key] + t ** 2 * to[key];
        return [0.2, 0.35, 0.5, 0.65, 0.8].map((t) => [on(t, "x") - 3, on(t, "y") - 5, on(t, "x") + 3, on(t, "y") + 5]);
      });
    return [...level, ...upright, ...teachers, ...arrows];
  }

  function teacherLines(frame) {
    return state
      .teachers()
      .filter(known)
      .map((row) => {
        const y = frame.up(state.mean(row, quality.key) / quality.scale);
        const text = withUnit(`${shortened(row.name)}: ${number(state.mean(row, quality.key), quality)}`, quality);
        return svg(
          "g",
          { class: "reference", "data-row": row.id },
          svg("line", { x1: frame.left, x2: frame.right, y1: y, y2: y }),
          svg("text", { x: frame.right, y: y - 6, "text-anchor": "end" }, text),
        );
      });
  }

  function seeds({ row, x, y }, frame) {
    const value = row.values[quality.key];
    const up = (one) => frame.up(one / quality.scale);
    const [low, high] = [up(value.mean - value.sd), up(value.mean + value.sd)];
    const ends = `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8`;
    const bar = isNumber(value.sd) ? svg("path", { class: "bar", d: ends }) : null;
    const dots =
      value.n > 1 ? value.each.map(([, one]) => svg("circle", { class: "seed", cx: x + 11, cy: up(one), r: 2.5 })) : [];
    return svg("g", { "data-row": row.id, style: { "--c": state.colours.get(row.id) } }, bar, dots);
  }

  /** The control point of an arrow. */
  function bowed(from, to) {
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const share = Math.min(26 / Math.hypot(dx, dy), 0.3);
    return { x: (from.x + to.x) / 2 + dy * share, y: (from.y + to.y) / 2 - dx * share };
  }

  /** Bows to the left, since both often cost the same and stand above each other. */
  function arrow(at, row) {
    const [from, to] = [at.get(row.values.gain?.scratch), at.get(row.id)];
    if (!from || !to || row.init !== "distilled") return null;
    if (Math.hypot(to.x - from.x, to.y - from.y) < 26) return null;
    const middle = bowed(from, to);
    const near = (end) => {
      const way = Math.hypot(middle.x - end.x, middle.y - end.y);
      return { x: end.x + ((middle.x - end.x) * 10) / way, y: end.y + ((middle.y - end.y) * 10) / way };
    };
    const [start, tip] = [near(from), near(to)];
    const angle = Math.atan2(tip.y - middle.y, tip.x - middle.x);
    const wing = (turn) => `${tip.x - 7 * Math.cos(angle + turn)} ${tip.y - 7 * Math.sin(angle + turn)}`;
    const end = `${tip.x} ${tip.y}`;
    return svg("path", {
      class: "arrow",
      "data-row": row.id,
      style: { "--c": state.colours.get(row.id) },
      d: `M${start.x} ${start.y}Q${middle.x} ${middle.y} ${end}M${wing(0.5)}L${end}L${wing(-0.5)}`,
    });
  }

  function point({ row, x, y }) {
    const lines = () => [
      html("strong", {}, row.name),
      ...valueLines(state, row, quality),
      ...valueLines(state, row, cost),
    ];
    const said = (column) => `${column.name} ${withUnit(valueText(row.values[column.key], column), column)}`;
    const text = `${row.name}: ${said(quality)}, ${said(cost)}`;
    const area = svg("circle", { class: "area", r: 13 });
    return explained(
      svg(
        "g",
        { class: "point", "data-row": row.id, role: "img", "aria-label": text, transform: `translate(${x} ${y})` },
        area,
        marker(state, row),
      ),
      lines,
    );
  }

  function redraw() {
    hideTip();
    drawAgain();
  }

  state.changed.push(redraw);
  const axis = choice(
    "cost",
    costs.map((one) => [one.key, heading(one)]),
    cost.key,
    (key) => {
      cost = costs.find((one) => one.key === key);
      log.firstChild.checked = spread(cost) > LOG_FROM || withTeacher;
      redraw();
    },
  );
  return html(
    "figure",
    { class: "pareto" },
    html("h3", {}, "Quality against cost"),
    html("div", { class: "controls" }, axis, log, teacher),
    box,
    html("p", { class: "legend" }, markerLegend(state)),
    caption,
  );
}

function empty(title, text) {
  return html("figure", { class: "empty" }, html("h3", {}, title), html("p", { class: "muted" }, text));
}
