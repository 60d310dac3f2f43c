// Each class, distilled against scratch: bars to both sides of zero.

function classesPart(state) {
  const { classes } = state.section;
  if (!classes || !classes.pairs.length) return null;
  const body = html("tbody");
  const names = html("tr");
  const caption = html("figcaption");
  let pair = classes.pairs[0];

  function draw() {
    const most = Math.max(...pair.classes.map((one) => Math.abs(one.difference ?? 0))) || 1;
    const [first, second] = [state.rows.get(pair.scratch), state.rows.get(pair.row)];
    names.replaceChildren(
      html("th", { scope: "col" }, "class"),
      html("th", { scope: "col", class: "value" }, "difference"),
      html("th", { scope: "col", "aria-label": "difference as a bar" }),
      html("th", { scope: "col", class: "value" }, INITS[first?.init] ?? "scratch"),
      html("th", { scope: "col", class: "value" }, INITS[second?.init] ?? "model"),
      html("th", { scope: "col", class: "value" }, pair.classes[0]?.counted ?? "count"),
    );
    body.replaceChildren(...pair.classes.map((one, i) => line(one, i, most)));
    const better = pair.classes.filter((one) => one.difference > 0).length;
    const compared = pair.classes.filter((one) => isNumber(one.difference)).length;
    const than = nameOf(state, pair.scratch);
    caption.textContent = `${nameOf(state, pair.row)} is better in ${better} of ${compared} classes than ${than}.`;
  }

  function line(one, i, most) {
    const share = ((Math.abs(one.difference ?? 0) / most) * 50).toFixed(2);
    const side = one.difference < 0 ? "loss" : "win";
    const cell = (value, key, signed = false) =>
      html("td", { class: `value ${key}`, "data-class": i, "data-key": key }, number(value, classes, signed));
    return html(
      "tr",
      {},
      html("th", { scope: "row" }, one.name),
      cell(one.difference, "difference", true),
      html("td", { class: "bars" }, html("div", { class: `difference-bar ${side}`, style: { width: `${share}%` } })),
      cell(one.scratch, "scratch"),
      cell(one.value, "value"),
      html("td", { class: "value muted" }, String(one.count ?? MISSING)),
    );
  }

  const pairs =
    classes.pairs.length > 1
      ? choice(
          "pair",
          classes.pairs.map((one, i) => [String(i), `${nameOf(state, one.row)} against ${nameOf(state, one.scratch)}`]),
          "0",
          (i) => {
            pair = classes.pairs[Number(i)];
            draw();
          },
        )
      : null;
  draw();
  return html(
    "figure",
    { class: "classes" },
    html("h3", {}, `By class: ${heading(classes)}`),
    pairs ? html("div", { class: "controls" }, pairs) : null,
    html("div", { class: "scroll" }, html("table", { class: "by-class" }, html("thead", {}, names), body)),
    caption,
  );
}
