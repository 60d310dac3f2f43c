// The models of a section: what they are called, how they are drawn, which are shown.

const PALETTE = 8; // colours of page.css
const INITS = { scratch: "from scratch", distilled: "distilled", pretrained: "pretrained" };

/** What the views of one section share. `changed` are called when the shown models change. */
function models(section) {
  const rows = new Map(section.rows.map((row) => [row.id, row]));
  const students = section.rows.filter((row) => row.role === "student");
  const state = {
    section,
    mixed: new Set(students.map((row) => row.init)).size > 1, // else markers and dashes need not tell them apart
    rows,
    columns: section.columns,
    quality: section.columns.find((column) => column.key === section.quality),
    colours: coloursOf(section.rows),
    visible: new Set(rows.keys()),
    changed: [],
    students: () => section.rows.filter((row) => row.role === "student" && state.visible.has(row.id)),
    teachers: () => section.rows.filter((row) => row.role !== "student" && state.visible.has(row.id)),
    mean: (row, key) => row.values[key]?.mean ?? null,
    show(visible) {
      state.visible = visible;
      for (const draw of state.changed) draw();
    },
  };
  return state;
}

/** A student has the colour of its scratch baseline; a second one that starts alike gets another. */
function coloursOf(rows) {
  const colours = new Map();
  const families = new Map();
  const taken = new Set();
  let next = 0;
  for (const row of rows) {
    if (row.role !== "student") {
      colours.set(row.id, "var(--teacher)");
      continue;
    }
    const family = row.values.gain?.scratch ?? row.id;
    const known = families.get(family);
    if (known !== undefined && !taken.has(`${family} ${row.init}`)) {
      colours.set(row.id, known);
    } else {
      colours.set(row.id, `var(--c${next++ % PALETTE})`);
      if (known === undefined) families.set(family, colours.get(row.id));
    }
    taken.add(`${family} ${row.init}`);
  }
  return colours;
}

/** Marker of a model around (0, 0): hollow from scratch, filled distilled, a square pretrained, a diamond a teacher. */
function marker(state, row, size = 6) {
  const colour = { "--c": state.colours.get(row.id) };
  if (row.role !== "student") {
    const tip = size * 1.25;
    return svg("path", { class: "marker full", style: colour, d: `M0 ${-tip}L${tip} 0L0 ${tip}L${-tip} 0Z` });
  }
  if (state.mixed && row.init === "pretrained") {
    return svg("rect", { class: "marker full", style: colour, x: -size, y: -size, width: 2 * size, height: 2 * size });
  }
  return svg("circle", {
    class: `marker ${state.mixed && row.init === "scratch" ? "hollow" : "full"}`,
    style: colour,
    r: size,
  });
}

function glyph(state, row) {
  return svg(
    "svg",
    { class: "glyph", viewBox: "-9 -9 18 18", width: 16, height: 16, "aria-hidden": "true" },
    marker(state, row),
  );
}

/** The dashes of a model's lines, which tell the initialisation without colour. */
function dashes(state, row) {
  if (row.role !== "student") return "2 4";
  if (!state.mixed) return null;
  return { scratch: "5 4", pretrained: "9 3 2 3" }[row.init] ?? null;
}

/** How the markers of a section are read, for the kinds that it has. */
function markerLegend(state) {
  if (!state.mixed && !state.section.rows.some((row) => row.role !== "student")) return [];
  const kinds = new Map();
  for (const row of state.section.rows) {
    const start = state.mixed ? (INITS[row.init] ?? row.init) : "student";
    const kind = row.role === "student" ? start : `${row.role}, for reference`;
    if (!kinds.has(kind)) kinds.set(kind, row);
  }
  const grey = { ...state, colours: new Map([...state.rows.keys()].map((id) => [id, "var(--muted)"])) };
  return [...kinds].map(([kind, row]) => html("span", { class: "key" }, glyph(grey, row), kind));
}

function nameOf(state, id) {
  return state.rows.get(id)?.name ?? id;
}

/** A value as its cell shows it: "41.2 ± 0.8", "+3.1 [1.2, 5.0]". */
function valueText(value, column) {
  if (!value || value.missing !== undefined) return MISSING;
  const signed = column.group === "gain";
  const mean = number(value.mean, column, signed);
  if (signed) return isNumber(value.low) ? `${mean} ${intervalText(value, column)}` : mean;
  return isNumber(value.sd) && column.group === "quality" ? `${mean} ± ${number(value.sd, column)}` : mean;
}

function intervalText(value, column) {
  return `[${number(value.low, column, true)}, ${number(value.high, column, true)}]`;
}

function isNumber(value) {
  return typeof value === "number";
}

/** What hovering over a value says. */
function valueLines(state, row, column) {
  const value = row.values[column.key];
  if (!value) return [`${column.name}: not recorded`];
  if (value.missing !== undefined) return [`${column.name}: ${value.missing}`];
  const signed = column.group === "gain";
  const shown = (x) => number(x, column, signed);
  const lines = [withUnit(`${column.name}: ${valueText(value, column)}`, column)];
  if (signed) {
    lines.push(`against ${nameOf(state, value.scratch)}`);
    lines.push(isNumber(value.low) ? "brackets: 95 % interval of the mean, paired by seed" : "one seed: no interval");
  }
  const varies = value.min !== value.max;
  lines.push(
    varies
      ? `n = ${value.n}, from ${shown(value.min)} to ${withUnit(shown(value.max), column)}`
      : `n = ${value.n}${value.n > 1 ? ", all equal" : ""}`,
  );
  if (varies) lines.push(value.each.map(([seed, x]) => `seed ${seed}: ${shown(x)}`).join(" · "));
  if (row.best.includes(column.key)) lines.push("best of this column");
  if (value.flag) lines.push(html("p", { class: "red" }, `⚠ ${value.flag}`));
  return lines;
}
