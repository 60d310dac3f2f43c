// What a row of the table opens into: its seeds, runs, commands and notes.

function details(state, row) {
  return html(
    "div",
    { class: "opened" },
    html(
      "dl",
      { class: "facts" },
      factsOf(state, row).map(([name, text]) => html("div", {}, html("dt", {}, name), html("dd", {}, text))),
    ),
    noteList(row.notes),
    seedTable(state, row),
    html("h5", {}, row.runs.length === 1 ? "Run folder" : "Run folders"),
    html(
      "ul",
      { class: "runs" },
      row.runs.map((run) => html("li", {}, html("code", {}, run))),
    ),
    row.commands.length
      ? html(
          "div",
          { class: "commands" },
          html("h5", {}, "To run it again"),
          copyButton(row.commands.join("\n")),
          html("pre", { tabindex: "0" }, row.commands.join("\n")),
        )
      : null,
  );
}

function factsOf(state, row) {
  const facts = [
    ["student", row.student],
    ["initialisation", INITS[row.init] ?? row.init],
    ["head", row.head],
    ["teacher", row.teacher],
    ["image size", row.image_size ? `${row.image_size} px` : null],
    ["seeds", row.seeds.join(", ")],
    ["dominated by", row.dominated_by.map((id) => nameOf(state, id)).join(", ")],
  ];
  return facts.filter(([, text]) => text);
}

/** A row a seed, a column for each value that has seeds. */
function seedTable(state, row) {
  if (row.seeds.length < 2) return null;
  const columns = state.columns.filter((column) => row.values[column.key]?.each?.length);
  if (!columns.length) return null;
  const each = new Map(columns.map((column) => [column.key, new Map(row.values[column.key].each)]));
  const cell = (seed, column) =>
    html(
      "td",
      { class: "value", "data-row": row.id, "data-column": column.key, "data-seed": seed },
      number(each.get(column.key).get(seed), column, column.group === "gain"),
    );
  return html(
    "div",
    { class: "scroll" },
    html(
      "table",
      { class: "seeds" },
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          html("th", { scope: "col" }, "seed"),
          columns.map((column) => html("th", { scope: "col", class: "value" }, heading(column))),
        ),
      ),
      html(
        "tbody",
        {},
        row.seeds.map((seed) =>
          html(
            "tr",
            {},
            html("th", { scope: "row" }, String(seed)),
            columns.map((column) => cell(seed, column)),
          ),
        ),
      ),
    ),
  );
}

/** Name and unit of a column, for one line of text. */
function heading(column) {
  return column.unit ? `${column.name} (${column.unit})` : column.name;
}
