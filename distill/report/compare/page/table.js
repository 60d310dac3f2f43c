// The table of a section: a row for each model.

function modelTable(state) {
  const hidden = new Set(state.columns.filter((column) => !column.shown).map((column) => column.key));
  const sorting = { key: null, descending: false };
  let words = [];
  let hideDominated = false;

  const headers = new Map([["", sortHeader("", "model", "Sorts by name")]]);
  for (const column of state.columns) headers.set(column.key, sortHeader(column.key, column.name, column));
  const body = html("tbody");
  const lines = new Map(state.section.rows.map((row) => [row.id, { row: modelRow(row), opened: null }]));
  const count = html("output", { class: "count" });
  const table = html(
    "table",
    { class: "models", on: { keydown: moveFocus } },
    html("caption", { class: "unseen" }, `Models of ${state.section.title}`),
    html("thead", {}, html("tr", {}, [...headers.values()])),
    body,
  );

  function sortHeader(key, label, column) {
    const first = state.columns.find((one) => one.key === key);
    const arrow = { max: "↑", min: "↓" }[column.better];
    const unit = [first?.unit ? `(${first.unit})` : null, arrow].filter(Boolean).join(" ");
    const button = html(
      "button",
      { type: "button", on: { click: () => sortBy(key) } },
      label,
      unit ? [" ", html("span", { class: "unit" }, unit)] : null,
    );
    if (first) {
      const direction = { max: "Higher is better.", min: "Lower is better." }[column.better] ?? "";
      explained(button, () => [column.meaning, direction, "Click to sort."]);
    }
    return html(
      "th",
      { scope: "col", "aria-sort": "none", "data-column": key, class: first ? `value ${edge(first)}` : "name" },
      button,
    );
  }

  /** Where a group of columns begins. */
  function edge(column) {
    const before = state.columns[state.columns.indexOf(column) - 1];
    return before?.group === column.group ? "" : "edge";
  }

  function modelRow(row) {
    const button = html(
      "button",
      { type: "button", class: "model", "aria-expanded": "false" },
      glyph(state, row),
      html("span", {}, row.name),
    );
    const line = html(
      "tr",
      { "data-row": row.id, class: row.dominated_by.length ? "dominated" : null, on: { click } },
      html("th", { scope: "row", class: "name" }, button, html("div", { class: "chips" }, chips(row))),
      state.columns.map((column) => valueCell(row, column)),
    );
    function click(event) {
      // Neither where a text is being selected nor on what explains itself.
      if (event.target.closest(".chip") || (event.detail > 0 && String(getSelection()))) return;
      toggle(row, button);
    }
    return line;
  }

  function chips(row) {
    const scored = row.values[state.section.quality]?.n ?? row.seeds.length;
    const of = scored < row.seeds.length ? `${scored} of ` : "";
    const seeds = row.seeds.length > 1 ? `${of}${plural(row.seeds.length, "seed")}` : null;
    const red = row.notes.filter((note) => note.level === "red");
    return [
      row.role !== "student" ? html("span", { class: "chip" }, "reference") : null,
      row.dominated_by.length
        ? explained(html("span", { class: "chip" }, "dominated"), () => [
            `Dominated by ${row.dominated_by.map((id) => nameOf(state, id)).join(", ")}:`,
            "no worse in quality and in every known cost, and better in one.",
          ])
        : null,
      red.length ? explained(html("span", { class: "chip red" }, "⚠ note"), () => red.map(({ text }) => text)) : null,
      [seeds, row.image_size ? `${row.image_size} px` : null].filter(Boolean).join(" · "),
    ];
  }

  function valueCell(row, column) {
    const value = row.values[column.key];
    const known = value && value.missing === undefined;
    const text = valueText(value, column);
    const mean = known ? number(value.mean, column, column.group === "gain") : text;
    const cell = html(
      "td",
      { class: `value ${edge(column)}`, "data-row": row.id, "data-column": column.key, tabindex: "-1" },
      known && value.flag ? html("span", { class: "mark", role: "img", "aria-label": "red flag" }, "⚠") : null,
      html("span", { class: "mean" }, mean),
      text === mean ? null : html("span", { class: "spread" }, text.slice(mean.length)),
      known && column.key === state.section.quality ? html("span", { class: "n" }, ` n=${value.n}`) : null,
    );
    cell.classList.toggle("best", row.best.includes(column.key));
    cell.classList.toggle("red", Boolean(known && value.flag));
    cell.classList.toggle("missing", !known);
    return explained(cell, () => valueLines(state, row, column), false);
  }

  function toggle(row, button) {
    const line = lines.get(row.id);
    if (line.opened) {
      line.opened.remove();
      line.opened = null;
    } else {
      line.opened = html("tr", { class: "opened-row" }, html("td", { colspan: shownColumns() }, details(state, row)));
      line.row.after(line.opened);
    }
    button.setAttribute("aria-expanded", String(Boolean(line.opened)));
  }

  function shownColumns() {
    return 1 + state.columns.filter((column) => !hidden.has(column.key)).length;
  }

  /** The best first, then the other way round. */
  function sortBy(key) {
    const column = state.columns.find((one) => one.key === key);
    const start = column !== undefined && column.better !== "min";
    sorting.descending = sorting.key === key ? !sorting.descending : start;
    sorting.key = key;
    arrange();
  }

  function arrange() {
    const rows = [...state.section.rows];
    const sign = sorting.descending ? -1 : 1;
    if (sorting.key === "") rows.sort((a, b) => sign * a.name.localeCompare(b.name, "en", { numeric: true }));
    else if (sorting.key !== null) {
      const mean = (row) => state.mean(row, sorting.key);
      rows.sort((a, b) => (mean(a) === null) - (mean(b) === null) || sign * (mean(a) - mean(b)));
    }
    for (const row of rows) {
      const { row: line, opened } = lines.get(row.id);
      body.append(line, ...(opened ? [opened] : []));
    }
    for (const [key, header] of headers) {
      header.setAttribute("aria-sort", key !== sorting.key ? "none" : sorting.descending ? "descending" : "ascending");
    }
  }

  function selected() {
    const matches = (row) => {
      const text = [row.name, row.student, row.init, row.head, row.teacher, row.role, ...row.runs]
        .join(" ")
        .toLowerCase();
      return words.every((word) => text.includes(word));
    };
    return state.section.rows.filter((row) => matches(row) && !(hideDominated && row.dominated_by.length));
  }

  function update() {
    for (const [id, { row, opened }] of lines) {
      row.hidden = !state.visible.has(id);
      if (opened) opened.hidden = row.hidden;
    }
    for (const cell of table.querySelectorAll(":is(thead, tbody) > tr > [data-column]"))
      cell.hidden = hidden.has(cell.dataset.column);
    for (const { opened } of lines.values()) opened?.firstChild.setAttribute("colspan", shownColumns());
    count.textContent = `${state.visible.size} of ${plural(state.rows.size, "model")}`;
  }

  function choose() {
    state.show(new Set(selected().map((row) => row.id)));
  }

  /** Arrow keys walk over the cells, so that Tab stops only once in a row. */
  function moveFocus(event) {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    const line = event.target.closest("tr[data-row]");
    if (!step || !line) return;
    const places = (one) => [one.querySelector("button.model"), ...one.querySelectorAll(":scope > td:not([hidden])")];
    const rows = [...body.querySelectorAll("tr[data-row]:not([hidden])")];
    const column = places(line).findIndex((place) => place === event.target);
    const next = rows[rows.indexOf(line) + step[0]];
    const target = column >= 0 && next && places(next)[column + step[1]];
    if (!target) return;
    event.preventDefault();
    target.focus();
  }

  const filter = html("input", {
    type: "search",
    placeholder: "Filter models",
    "aria-label": "Filter models",
    on: {
      input: () => {
        words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        choose();
      },
    },
  });
  const columns = state.columns.map((column) => ({ key: column.key, name: column.name, on: column.shown }));
  const anyDominated = state.section.rows.some((row) => row.dominated_by.length);
  const controls = html(
    "div",
    { class: "controls" },
    filter,
    picker("Columns", columns, (key, on) => {
      if (on) hidden.delete(key);
      else hidden.add(key);
      update();
    }),
    anyDominated
      ? checkbox("Hide dominated", false, (on) => {
          hideDominated = on;
          choose();
        })
      : null,
    count,
  );
  state.changed.push(update);
  arrange();
  return html(
    "div",
    { class: "table-part" },
    controls,
    html("div", { class: "scroll", tabindex: "-1" }, table),
    tableKey(state, anyDominated),
    redNotes(state),
  );
}

function tableKey(state, anyDominated) {
  const folded = state.section.rows.some((row) => row.seeds.length > 1);
  const anyBest = state.section.rows.some((row) => row.best.length);
  return html(
    "p",
    { class: "legend" },
    markerLegend(state),
    anyBest ? html("span", { class: "key" }, html("b", {}, "bold"), ": best of its column") : null,
    anyDominated
      ? html(
          "span",
          { class: "key" },
          html("span", { class: "dim" }, "dimmed"),
          ": dominated, another model is no worse in quality and in every known cost, and better in one",
        )
      : null,
    folded ? html("span", { class: "key" }, "± : standard deviation over seeds") : null,
    html("span", { class: "key" }, "Click a row for its seeds, folders and commands."),
  );
}

/** The red notes of the models; those of columns stand above the table. */
function redNotes(state) {
  return noteList(
    state.section.rows.flatMap(({ name, notes }) =>
      notes.filter(({ level }) => level === "red").map(({ level, text }) => ({ level, text: `${name}: ${text}` })),
    ),
  );
}
