// Axes, ticks and labels that the plots share. Positions are in pixels of the drawing.

const MARGIN = { top: 14, right: 16, bottom: 44, left: 56 };

/** A scale from numbers to pixels, with its ticks. */
function scale(low, high, from, to, logarithmic = false) {
  const by = logarithmic ? Math.log10 : (x) => x;
  const [a, b] = [by(low), by(high)];
  const place = (x) => from + ((by(x) - a) / (b - a || 1)) * (to - from);
  const apart = logarithmic ? 44 : from > to ? 42 : 64; // px between ticks; pixels grow downwards
  const room = Math.max(3, Math.floor(Math.abs(to - from) / apart));
  place.invert = (pixel) => a + ((pixel - from) / (to - from)) * (b - a);
  place.ticks = logarithmic ? logTicks(low, high, room) : ticks(low, high, room);
  return place;
}

function ticks(low, high, room) {
  const rough = (high - low) / room || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => {
    const value = (first + i) * step;
    return { value, text: value.toFixed(decimals).replace("-", "−") };
  });
}

/** 1, 2 and 5 times powers of ten, fewer over many decades, more within one. */
function logTicks(low, high, room) {
  const decades = (factors) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const factor of factors) {
        const value = Number(`${factor}e${power}`);
        if (value >= low * 0.999 && value <= high * 1.001) found.push({ value, text: String(value) });
      }
    }
    return found;
  };
  const tries = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]].map(decades);
  const fitting = tries.find((found) => found.length <= room) ?? tries.at(-1);
  return fitting.length >= 2 ? fitting : ticks(low, high, room).filter(({ value }) => value > 0);
}

/** Lowest and highest of some numbers with room around them; null without numbers. */
function extent(values, room = 0.06) {
  const known = values.filter(isNumber);
  if (!known.length) return null;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const more = (high - low || Math.abs(high) || 1) * room;
  return [low - more, high + more];
}

/** Draws axes with a grid into `root`; returns the scales. */
function axes(root, { width, height, x, y }) {
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const across = scale(...x.domain, MARGIN.left, right, x.logarithmic);
  const up = scale(...y.domain, bottom, MARGIN.top);
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  root.setAttribute("width", width);
  root.setAttribute("height", height);
  root.replaceChildren(
    svg(
      "g",
      { class: "axis" },
      up.ticks.map(({ value, text }) => [
        svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: up(value), y2: up(value) }),
        svg("text", { x: MARGIN.left - 8, y: up(value), "text-anchor": "end", dy: "0.35em" }, text),
      ]),
      across.ticks.map(({ value, text }) => [
        svg("line", { class: "grid", x1: across(value), x2: across(value), y1: MARGIN.top, y2: bottom }),
        svg("text", { x: across(value), y: bottom + 18, "text-anchor": "middle" }, text),
      ]),
      svg("line", { class: "base", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
      svg("text", { class: "title", x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, x.title),
      svg(
        "text",
        {
          class: "title",
          transform: `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)`,
          "text-anchor": "middle",
        },
        y.title,
      ),
    ),
  );
  return { across, up, left: MARGIN.left, right, top: MARGIN.top, bottom };
}

/** A plot that is drawn again when its width changes. `draw` gets the element and its width. */
function plot(label, draw) {
  const root = svg("svg", { role: "group", "aria-label": label });
  const box = html("div", { class: "plot" }, root);
  let width = 0;
  const redraw = () => {
    width = box.clientWidth;
    if (width) draw(root, width);
  };
  new ResizeObserver(() => {
    if (box.clientWidth !== width) redraw();
  }).observe(box);
  return { box, redraw };
}

const measuring = document.createElement("canvas").getContext("2d");

function textWidth(text) {
  measuring.font = "12px system-ui, sans-serif";
  return measuring.measureText(text).width;
}

function shortened(text, length = 34) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

/**
 * Puts names beside points so that they cover neither each other nor a point, and no line in `lines` if that can be;
 * where there is no room, none. Areas are [left, top, right, bottom].
 */
function labels(points, box, lines) {
  const taken = points.map(({ x, y }) => [x - 8, y - 8, x + 8, y + 8]);
  const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  const placed = [];
  for (const point of points) {
    const text = shortened(point.text);
    const wide = textWidth(text);
    const spots = [
      [point.x + 16, point.y, "start"],
      [point.x - 11, point.y, "end"],
      [point.x + 8, point.y - 14, "start"],
      [point.x + 8, point.y + 14, "start"],
      [point.x - 8, point.y - 14, "end"],
      [point.x - 8, point.y + 14, "end"],
      [point.x, point.y - 17, "middle"],
      [point.x, point.y + 17, "middle"],
    ];
    const areaOf = ([x, y, anchor]) => {
      const left = x - { start: 0, middle: wide / 2, end: wide }[anchor];
      return [left, y - 8, left + wide, y + 8];
    };
    const free = spots.filter((spot) => {
      const area = areaOf(spot);
      const inside = area[0] >= box.left && area[2] <= box.right + MARGIN.right && area[1] >= box.top - 8;
      return inside && area[3] <= box.bottom && !taken.some((other) => overlap(area, other));
    });
    const best = free.find((spot) => !lines.some((line) => overlap(areaOf(spot), line))) ?? free[0];
    if (!best) continue;
    const [x, y, anchor] = best;
    taken.push(areaOf(best));
    placed.push(
      svg("text", { class: "label", "data-row": point.row, x, y, dy: "0.35em", "text-anchor": anchor }, text),
    );
  }
  return placed;
}
