// Builds the page from the content of compare.json.

function pageHeader(content) {
  const { measured, passed_over: passed, sections } = content;
  const times = measured
    ? [
        "Times: all models in turns in one process",
        plural(measured.rounds, "round"),
        measured.cpu,
        plural(measured.threads, "thread"),
        ...measured.gpus,
        `torch ${measured.torch}.`,
      ].join(", ")
    : "Times: as each run measured them before it trained.";
  return [
    html("div", { class: "top" }, html("h1", {}, "Models compared"), themeButton()),
    html("p", { class: "muted" }, `${content.made} · distill ${content.version} · ${times}`),
    content.command
      ? html("div", { class: "command" }, html("code", {}, content.command), copyButton(content.command))
      : null,
    passed.length
      ? html(
          "details",
          {},
          html("summary", {}, `${plural(passed.length, "path")} passed over, which hold no run`),
          html(
            "ul",
            { class: "runs" },
            passed.map((one) => html("li", {}, html("code", {}, one))),
          ),
        )
      : null,
    sections.length > 1
      ? html(
          "nav",
          { "aria-label": "Sections" },
          sections.map((section) =>
            html(
              "a",
              { href: `#${section.id}` },
              section.title,
              html("span", { class: "muted" }, ` ${plural(section.rows.length, "model")}`),
            ),
          ),
        )
      : null,
  ];
}

/** Follows the system until it is pressed. */
function themeButton() {
  const root = document.documentElement;
  const dark = () =>
    (root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = html("button", { type: "button", class: "theme", on: { click: switchTheme } });
  const name = () => (button.textContent = dark() ? "Light" : "Dark");
  function switchTheme() {
    root.style.colorScheme = dark() ? "light" : "dark";
    name();
  }
  name();
  return button;
}

function sectionPart(state, store) {
  const { section } = state;
  const red = section.notes.filter((note) => note.level === "red");
  const others = section.notes.filter((note) => note.level !== "red");
  const part = html(
    "section",
    { id: section.id, "aria-labelledby": `${section.id}-title` },
    html("h2", { id: `${section.id}-title` }, section.title),
    html("p", { class: "muted subtitle" }, section.subtitle),
    html("p", { class: "sentence" }, prose(section.sentence)),
    noteList(red),
    modelTable(state),
    html("div", { class: "pair" }, paretoPart(state), curvesPart(state)),
    classesPart(state),
    picturesPart(state, store),
    recipesPart(state),
    environmentsPart(state),
    noteList(others),
  );
  for (const event of ["pointerover", "focusin"])
    part.addEventListener(event, ({ target }) => light(part, target.closest("[data-row]")?.dataset.row));
  part.addEventListener("pointerleave", () => light(part, undefined));
  return part;
}

/** Lets the other models step back in the plots. */
function light(part, row) {
  for (const drawn of part.querySelectorAll(".plot [data-row]")) {
    drawn.classList.toggle("faint", row !== undefined && drawn.dataset.row !== row);
  }
}

const content = parsed("content");
const store = parsed("pictures");
document.title = `Models compared: ${content.sections.map((section) => section.title).join(", ")}`;
document.getElementById("top").append(...pageHeader(content).filter(Boolean));
const sections = content.sections.map(models);
document.getElementById("main").append(...sections.map((state) => sectionPart(state, store)));
for (const state of sections) state.show(state.visible); // draws, now that the plots have a width
document
  .getElementById("footer")
  .append("The same numbers are in compare.json, compare.csv and compare.md beside this page.");
document.addEventListener("keydown", ({ key, target }) => {
  if (key !== "Escape") return;
  hideTip();
  target.closest(".picker")?.removeAttribute("open");
});
document.addEventListener("click", ({ target }) => {
  for (const picker of document.querySelectorAll(".picker[open]")) picker.open = picker.contains(target);
});
document.addEventListener("scroll", placeTip, { capture: true, passive: true });
