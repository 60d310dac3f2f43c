"use strict";

// Sends an image, waits for its results and shows them. Names come from users: they are set as text, never as markup.

const part = (id) => document.getElementById(id);
const view = { score: 0.3, hidden: new Set() }; // names of classes
let server = null; // what /api/runs says
let image = null; // {id, name, size, results, layers}
let turn = 0; // counts images, so that an earlier one is not shown over a later one

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function fail(line) {
  part("error").textContent = line;
  part("error").hidden = !line;
  if (line) say("");
}

function say(text, done = 0, total = 0) {
  part("doing").textContent = text;
  part("bar").hidden = !text;
  if (total) Object.assign(part("bar"), { value: done, max: total });
  else part("bar").removeAttribute("value");
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. It may have been stopped, or have refused the file early.");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error ?? `The server answers with error ${answer.status}.`);
}

async function send(file) {
  const mine = ++turn;
  fail("");
  try {
    if (file.size > server.max_bytes)
      throw new Error(`${file.name} has ${megabytes(file.size)}, and ${megabytes(server.max_bytes)} are allowed here.`);
    say(`Sending ${file.name}`);
    const address = `/api/images?name=${encodeURIComponent(file.name)}`;
    const headers = { "content-type": "application/octet-stream" };
    const { id } = await (await ask(address, { method: "POST", headers, body: file })).json();
    const told = await result(id, mine);
    if (told === null) return forget(id);
    const layers = await Promise.all(told.results.map((found, i) => layer(id, found, i)));
    if (mine !== turn) return forget(id);
    if (image) forget(image.id);
    image = { id, ...told, layers };
    show();
  } catch (error) {
    if (mine === turn) fail(error.message);
  }
}

/** Waits for the results of an image; null if another one was chosen meanwhile. */
async function result(id, mine) {
  for (let pause = 100; mine === turn; pause = Math.min(1000, pause * 1.4)) {
    const told = await (await ask(`/api/images/${id}`)).json();
    if (mine !== turn) break;
    if (told.state === "done") return told;
    if (told.state === "failed") throw new Error(told.error);
    if (told.state === "predicting") say(`Predicting with ${told.run}`, told.done, told.total);
    else say(`Waiting for ${told.ahead} other ${told.ahead === 1 ? "image" : "images"} to be predicted`);
    await new Promise((wake) => setTimeout(wake, pause));
  }
  return null;
}

async function layer(id, found, number) {
  if (found.error) return null;
  const answer = await ask(`/api/images/${id}/${number}/shown`);
  const { task, classes } = server.runs[number];
  if (task === "segmentation") return classLayer(await answer.arrayBuffer(), classes, found.counts);
  return instanceLayer(await answer.json(), classes);
}

function forget(id) {
  fetch(`/api/images/${id}`, { method: "DELETE" }).catch(() => {});
}

function show() {
  say("");
  const [tall, wide] = image.size;
  Object.assign(part("picture"), { src: `/api/images/${image.id}/picture`, alt: `The image ${image.name}` });
  part("stage").style.width = `min(100%, ${(78 * wide) / tall}vh, ${Math.max(wide, 900)}px)`;
  part("stage").style.aspectRatio = `${wide} / ${tall}`; // before the picture has come
  part("name").textContent = `${image.name}, ${wide} × ${tall} pixels`;
  const named = image.results.map((found, i) => ({ ...found, name: server.runs[i].name }));
  const times = named.filter(({ error }) => !error).map(({ name, seconds }) => `${name} took ${seconds.toFixed(1)} s`);
  const notes = new Set(named.flatMap((found) => found.notes ?? [])); // those on the image are the same for all runs
  part("notes").replaceChildren(
    ...named
      .filter(({ error }) => error)
      .map(({ name, error }) => element("li", { className: "red" }, `${name}: ${error}`)),
    ...[times.join(", "), ...notes].filter(Boolean).map((line) => element("li", {}, line)),
  );
  part("result").hidden = false;
  update();
}

/** The runs on the left and on the right; -1 is the image alone. */
const sides = () => [Number(part("left").value), Number(part("right").value)];

function update() {
  part("from").textContent = view.score.toFixed(2);
  if (!image) return;
  const names = sides().map((number) => server.runs[number]?.name ?? "image");
  part("left-name").textContent = part("split").value > 0 ? names[0] : "";
  part("right-name").textContent = part("split").value < 100 ? names[1] : "";
  paint();
  legend();
  part("downloads").replaceChildren(
    ...image.results.flatMap((found, i) => (found.error ? [] : found.files.map((name) => download(i, name)))),
  );
}

function download(number, name) {
  const scored = server.runs[number].task === "instances";
  const address = `/api/images/${image.id}/${number}/files/${encodeURIComponent(name)}`;
  const kind = { json: "COCO results", geojson: "GeoJSON", tif: "GeoTIFF" }[name.split(".").pop()] ?? name;
  const from = scored ? ` of score ${view.score.toFixed(2)} and more` : "";
  const link = element("a", { href: scored ? `${address}?score=${view.score}` : address, download: name }, kind);
  return element("p", {}, `${server.runs[number].name}: `, link, from);
}

function paint() {
  const canvas = part("masks");
  const { clientWidth: wide, clientHeight: tall } = part("stage");
  [canvas.width, canvas.height] = [wide, tall].map((side) => Math.round(side * devicePixelRatio));
  const context = canvas.getContext("2d");
  const border = (image.size[1] * part("split").value) / 100;
  const scale = canvas.width / image.size[1];
  sides().forEach((number, right) => {
    context.save();
    context.scale(scale, canvas.height / image.size[0]);
    context.beginPath();
    context.rect(right ? border : 0, 0, right ? image.size[1] - border : border, image.size[0]);
    context.clip();
    image.layers[number]?.paint(context, image.size, view, devicePixelRatio / scale);
    context.restore();
  });
}

/** A row for each name of a class, with its colour in each run that is shown: runs may have other classes. */
function legend() {
  const columns = [...new Set(sides())].filter((number) => image.layers[number]);
  const amounts = columns.map((number) => image.layers[number].amounts(view));
  const colours = new Map();
  for (const [name, colour] of (columns.length ? columns : [0]).flatMap((number) => server.runs[number].classes))
    colours.set(name, (colours.get(name) ?? new Set()).add(colour));
  const head = ["class", ...columns.map((number) => server.runs[number].name)];
  part("legend").tHead.replaceChildren(element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name))));
  // With several classes only those that are found are listed; all stay where nothing is.
  const rows = [...colours].map(([name, own], i) => [name, own, i, amounts.map((of) => of.get(name) ?? "")]);
  part("legend").tBodies[0].replaceChildren(
    ...rows
      .filter(([, , , values]) => values.some(Boolean) || rows.length <= 12)
      .map(([name, own, i, values]) => {
        const box = element("input", { type: "checkbox", checked: !view.hidden.has(name), id: `class-${i}` });
        const squares = [...own].map((colour) => {
          const square = element("span", { className: "square" });
          square.style.background = colour;
          return square;
        });
        box.addEventListener("change", () => {
          view.hidden[box.checked ? "delete" : "add"](name);
          paint();
        });
        const title = element("label", { className: "class" }, box, ...squares, name);
        return element("tr", {}, element("th", { scope: "row" }, title), ...values.map((of) => element("td", {}, of || "–")));
      }),
  );
}

function hover(event) {
  const at = part("stage").getBoundingClientRect();
  const [tall, wide] = image.size;
  const [x, y] = [((event.clientX - at.left) / at.width) * wide, ((event.clientY - at.top) / at.height) * tall];
  const number = sides()[Number(x > (wide * part("split").value) / 100)];
  const context = part("masks").getContext("2d");
  part("under").textContent = image.layers[number]?.at(context, x, y, view, image.size) ?? "";
}

async function start() {
  server = await (await ask("/api/runs")).json();
  const { runs } = server;
  const choices = [...runs.map(({ name }, i) => [i, name]), [-1, "the image alone"]];
  for (const id of ["left", "right"])
    part(id).replaceChildren(...choices.map(([value, name]) => element("option", { value }, name)));
  part("right").value = runs.length > 1 ? 1 : -1;
  part("split").value = runs.length > 1 ? 50 : 100;
  const scores = runs.filter(({ task }) => task === "instances").map(({ score }) => score);
  part("scores").hidden = !scores.length;
  view.score = Math.max(view.score, ...scores);
  Object.assign(part("score"), { min: Math.min(...scores, 1), value: view.score });
  part("runs").textContent = `Predicts with ${runs.map(({ name }) => name).join(" and ")}.`;
  part("limits").textContent = `up to ${megabytes(server.max_bytes)} and ${server.max_pixels / 1e6} million pixels`;
  for (const id of ["left", "right", "split"]) part(id).addEventListener("input", update);
  part("score").addEventListener("input", () => {
    view.score = Number(part("score").value);
    update();
  });
  part("file").addEventListener("change", () => {
    if (part("file").files.length) send(part("file").files[0]);
    part("file").value = ""; // so that the same file can be chosen again
  });
  part("stage").addEventListener("mousemove", hover);
  part("stage").addEventListener("mouseleave", () => (part("under").textContent = ""));
  for (const type of ["dragover", "dragleave", "drop"])
    document.addEventListener(type, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", type === "dragover");
      if (type === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
  new ResizeObserver(() => image && paint()).observe(part("stage"));
}

const megabytes = (bytes) => `${Math.round(bytes / 1e4) / 100} MB`;

start().catch((error) => fail(error.message));
