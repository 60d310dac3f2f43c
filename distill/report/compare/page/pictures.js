// The same images down, the models across; a click shows a picture large.

const PARTS = {
  input: "input",
  truth: "ground truth",
  teacher: "teacher",
  prediction: "prediction",
  corrupted: "corrupted input",
  student: "student",
  error: "error",
};
const FIRST_SHOWN = 8; // models that are shown until more are chosen

function picturesPart(state, store) {
  const { pictures } = state.section;
  if (!pictures.length) return null;
  const withPictures = state.section.rows.filter((row) => pictures.some((picture) => picture.rows[row.id]));
  const chosen = new Set(withPictures.slice(0, FIRST_SHOWN).map((row) => row.id));
  const shared = [...new Set(pictures.flatMap((picture) => Object.keys(picture.shared)))];
  const table = html("table", { class: "pictures" });
  let shownNow = []; // in the order of the page, for the arrows of the large view

  function rows() {
    return withPictures.filter((row) => chosen.has(row.id) && state.visible.has(row.id));
  }

  function draw() {
    const columns = rows();
    shownNow = [];
    table.replaceChildren(
      html("caption", { class: "unseen" }, "Pictures of the same images by model"),
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          shared.map((part) => html("th", { scope: "col" }, PARTS[part] ?? part)),
          columns.map((row) => html("th", { scope: "col" }, glyph(state, row), row.name)),
        ),
      ),
      html(
        "tbody",
        {},
        pictures.map((picture, line) =>
          html(
            "tr",
            {},
            sharedCells(picture, line),
            columns.map((row) => modelCell(picture, line, row)),
          ),
        ),
      ),
    );
  }

  function sharedCells(picture, line) {
    return shared.map((part, i) =>
      html(
        i ? "td" : "th",
        i ? {} : { scope: "row" },
        picture.shared[part]
          ? shown({ picture, line, row: null, part, path: picture.shared[part], caption: "" })
          : MISSING,
        i ? null : html("div", { class: "image-name" }, picture.name),
      ),
    );
  }

  function modelCell(picture, line, row) {
    const own = picture.rows[row.id];
    if (!own) return html("td", { class: "muted" }, "no picture of this image");
    const parts = Object.entries(own.parts);
    return html(
      "td",
      {},
      html(
        "div",
        { class: "parts" },
        parts.map(([part, path]) =>
          html(
            "div",
            {},
            shown({ picture, line, row, part, path, caption: own.captions[part] ?? "" }),
            parts.length > 1 ? html("div", { class: "image-name" }, PARTS[part] ?? part) : null,
            own.captions[part] ? html("div", { class: "image-name" }, own.captions[part]) : null,
          ),
        ),
      ),
    );
  }

  function titleOf(view) {
    return [view.row?.name, PARTS[view.part] ?? view.part].filter(Boolean).join(" · ");
  }

  function shown(view) {
    const content = image(store, view.path, `${titleOf(view)} of ${view.picture.name}`);
    if (content.tagName !== "IMG") return content;
    shownNow.push(view);
    return html("button", { type: "button", class: "picture", on: { click: () => openLarge(view) } }, content);
  }

  const dialog = html("dialog", {
    class: "large",
    on: { keydown: moveLarge, click: (event) => event.target === dialog && dialog.close() },
  });
  let now = null;

  function openLarge(view) {
    now = view;
    const beside = view.row ? ["truth", "teacher", "input"].find((part) => view.picture.shared[part]) : null;
    const at = shownNow.indexOf(view);
    const step = (by, label) =>
      html(
        "button",
        { type: "button", disabled: !shownNow[at + by], on: { click: () => openLarge(shownNow[at + by]) } },
        label,
      );
    dialog.setAttribute("aria-label", `${view.picture.name}: ${titleOf(view)}`);
    dialog.replaceChildren(
      html(
        "header",
        {},
        html("strong", {}, view.picture.name),
        html("span", { class: "muted" }, `${at + 1} of ${shownNow.length}`),
        html("form", { method: "dialog" }, html("button", { class: "close", autofocus: true }, "Close")),
      ),
      html(
        "div",
        { class: "views" },
        beside ? large(view.picture.shared[beside], PARTS[beside], "") : null,
        large(view.path, titleOf(view), view.caption),
      ),
      html(
        "footer",
        {},
        step(-1, "← Previous"),
        step(1, "Next →"),
        html("span", { class: "muted" }, "Arrow keys: left and right over all pictures, up and down over images."),
      ),
    );
    if (!dialog.open) dialog.showModal();
    else dialog.querySelector(".close").focus();
  }

  function large(path, title, caption) {
    return html(
      "figure",
      {},
      image(store, path, title),
      html("figcaption", {}, html("b", {}, title), caption ? html("span", {}, caption) : null),
    );
  }

  function moveLarge(event) {
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = along
      ? shownNow[shownNow.indexOf(now) + along]
      : shownNow.find(
          (view) => down && view.line === now.line + down && view.row === now.row && view.part === now.part,
        );
    if (!along && !down) return;
    event.preventDefault();
    if (next) openLarge(next);
  }

  state.changed.push(draw);
  const choose =
    withPictures.length > 1
      ? picker(
          "Models",
          withPictures.map((row) => ({ key: row.id, name: row.name, on: chosen.has(row.id) })),
          (id, on) => {
            if (on) chosen.add(id);
            else chosen.delete(id);
            draw();
          },
        )
      : null;
  return html(
    "div",
    { class: "pictures-part" },
    html("h3", {}, "The same images"),
    html("div", { class: "controls" }, choose, html("span", { class: "muted" }, "Click a picture to see it large.")),
    html("div", { class: "scroll" }, table),
    dialog,
  );
}

/** A picture, or why there is none. */
function image(store, path, text) {
  const stored = store.images[store.places[path]];
  if (stored.missing !== undefined) return html("span", { class: "muted no-picture" }, stored.missing);
  return html("img", {
    src: stored.src,
    width: stored.width,
    height: stored.height,
    alt: text,
    class: stored.pixelated ? "pixelated" : null,
  });
}
