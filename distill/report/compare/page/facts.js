// What else a reader needs: recipes, machines, notes.

const FEW_KEYS = 12; // more are shown when asked for

function recipesPart(state) {
  const { recipes } = state.section;
  if (!recipes.length) return null;
  const columns = state.section.rows.filter((row) => recipes.some((one) => one.values[row.id] !== undefined));
  return html(
    "details",
    { open: recipes.length <= FEW_KEYS },
    html("summary", {}, html("h3", {}, `Recipe keys that differ: ${recipes.length}`)),
    html(
      "div",
      { class: "scroll" },
      html(
        "table",
        { class: "recipes" },
        html(
          "thead",
          {},
          html(
            "tr",
            {},
            html("th", { scope: "col" }, "key"),
            columns.map((row) => html("th", { scope: "col" }, glyph(state, row), row.name)),
          ),
        ),
        html(
          "tbody",
          {},
          recipes.map((one) =>
            html(
              "tr",
              {},
              html("th", { scope: "row" }, html("code", {}, dotted(one.key))),
              columns.map((row) => html("td", {}, html("code", {}, one.values[row.id] ?? MISSING))),
            ),
          ),
        ),
      ),
    ),
  );
}

function environmentsPart(state) {
  const { environments } = state.section;
  if (!environments.length) return null;
  const facts = [
    ["models", (one) => one.rows.map((id) => nameOf(state, id)).join(", ")],
    ["CPU", (one) => one.cpu],
    ["threads", (one) => one.threads],
    ["GPUs", (one) => one.gpus.join(", ") || "none"],
    ["Python", (one) => one.python],
    ["platform", (one) => one.platform],
    [
      "versions",
      (one) =>
        Object.entries(one.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(", "),
    ],
  ];
  return html(
    "div",
    {},
    html("h3", {}, environments.length > 1 ? "Environments, which differ" : "Environment"),
    html(
      "div",
      { class: "scroll" },
      html(
        "table",
        { class: "environments" },
        html(
          "thead",
          {},
          html(
            "tr",
            {},
            facts.map(([name]) => html("th", { scope: "col" }, name)),
          ),
        ),
        html(
          "tbody",
          {},
          environments.map((one) =>
            html(
              "tr",
              {},
              facts.map(([, read]) => html("td", {}, String(read(one) ?? MISSING))),
            ),
          ),
        ),
      ),
    ),
  );
}
