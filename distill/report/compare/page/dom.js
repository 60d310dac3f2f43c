"use strict";

// Elements and numbers. Names come from users: they are set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    } else if (name === "style") {
      for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Text in which backticks mark code, as in the other files. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? html("code", {}, part) : part));
}

/** A dotted key, which may break after its dots. */
function dotted(key) {
  return key.split(".").map((part, i) => (i ? [".", html("wbr"), part] : part));
}

function parsed(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

const MISSING = "–";

/** A stored number as people read it, in the unit of `shown`. Ties round to even, as in the other files. */
function number(value, shown, signed = false) {
  if (value === null || value === undefined) return MISSING;
  const scaled = Math.abs(value / (shown.scale ?? 1));
  const digits = shown.digits ?? 0;
  let text = scaled.toFixed(digits);
  const tie = (scaled * 2 ** (digits + 1)) % 2 === 1;
  if (tie && Number(text.at(-1)) % 2 === 1) text = (scaled - 0.25 * 10 ** -digits).toFixed(digits);
  return (value < 0 ? "−" : signed ? "+" : "") + text;
}

function withUnit(text, shown) {
  return shown.unit ? `${text} ${shown.unit}` : text;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

// One tooltip for the page.

let tipOwner = null;

function showTip(element, lines) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(
    ...lines.filter(Boolean).map((line) => (line instanceof Node ? line : html("p", {}, prose(line)))),
  );
  tip.hidden = false;
  tipOwner = element;
  placeTip();
}

function placeTip() {
  const tip = document.getElementById("tip");
  if (tip.hidden) return;
  tip.style.left = "0"; // where it is as wide as its text asks
  const at = tipOwner.getBoundingClientRect();
  const left = Math.min(at.left + at.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : Math.min(at.bottom + 8, innerHeight - tip.offsetHeight - 8)}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

/** Says more on hover and on focus; `lines` is called then. Without `focusable`, something else moves the focus. */
function explained(element, lines, focusable = true) {
  if (focusable && !element.hasAttribute("tabindex") && element.tagName !== "BUTTON") {
    element.setAttribute("tabindex", "0");
  }
  element.setAttribute("aria-describedby", "tip");
  for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => showTip(element, lines()));
  for (const event of ["mouseleave", "blur"]) element.addEventListener(event, hideTip);
  return element;
}

// Controls that several views share.

function checkbox(label, checked, change) {
  const box = html("input", { type: "checkbox", checked, on: { change: () => change(box.checked) } });
  return html("label", { class: "check" }, box, label);
}

/** A choice of one of `options`: [value, label]. */
function choice(label, options, value, change) {
  const list = html(
    "select",
    { on: { change: () => change(list.value) } },
    options.map(([key, text]) => html("option", { value: key, selected: key === value }, text)),
  );
  return html("label", { class: "choice" }, html("span", {}, label), list);
}

/** A list of checkboxes that opens; `items` are {key, name, on}. */
function picker(label, items, change) {
  const boxes = items.map((item) => checkbox(item.name, item.on, (on) => change(item.key, on)));
  return html("details", { class: "picker" }, html("summary", {}, label), html("div", { class: "menu" }, boxes));
}

function copyButton(text) {
  const button = html("button", { type: "button", class: "copy", on: { click: copy } }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text and copy it"; // the browser forbids it here
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
  return button;
}

function noteList(notes) {
  if (!notes.length) return null;
  return html(
    "ul",
    { class: "notes" },
    notes.map((note) =>
      html(
        "li",
        { class: note.level },
        html("span", { class: "mark", "aria-hidden": "true" }, note.level === "red" ? "⚠" : "i"),
        html("span", {}, prose(note.text)),
      ),
    ),
  );
}
