"use strict";

// What a run found, as a layer that draws itself in pixels of the image. `classes` are [name, colour] in label order;
// a view hides classes by name, since labels of one run are not those of another.

const FILLED = 0.3;
const CLASSES = 0.45;
const NO_CLASS = 255;

/** Objects; `items` are [label, score, outline], the best first. */
function instanceLayer(items, classes) {
  const objects = items.map(([label, score, outline]) => ({ label, score, path: new Path2D(outline) }));
  const hidden = (label, view) => view.hidden.has(classes[label][0]);
  const shown = (view) => objects.filter(({ label, score }) => score >= view.score && !hidden(label, view));
  return {
    paint(context, size, view, pixel) {
      context.lineWidth = 2 * pixel;
      context.lineJoin = "round";
      for (const { label, path } of shown(view).reverse()) {
        context.fillStyle = context.strokeStyle = classes[label][1];
        context.globalAlpha = FILLED;
        context.fill(path, "evenodd");
        context.globalAlpha = 1;
        context.stroke(path);
      }
    },
    at(context, x, y, view) {
      const found = shown(view).find(({ path }) => context.isPointInPath(path, x, y, "evenodd"));
      return found ? `${classes[found.label][0]}, score ${found.score.toFixed(2)}` : "";
    },
    /** How many there are of each class, by name. */
    amounts(view) {
      const counts = classes.map(() => 0);
      for (const { label, score } of objects) if (score >= view.score) counts[label] += 1;
      return new Map(classes.map(([name], label) => [name, counts[label] ? counts[label].toLocaleString("en") : ""]));
    },
  };
}

/** Classes of pixels: height and width as 32 bits each, then a byte a pixel. */
function classLayer(content, classes, counts) {
  const [height, width] = new Uint32Array(content, 0, 2);
  const labels = new Uint8Array(content, 8);
  const colours = classes.map(([, colour]) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  let drawn = null;

  function draw(hidden) {
    const image = new ImageData(width, height);
    const shown = classes.map(([name]) => !hidden.has(name));
    labels.forEach((label, i) => {
      if (shown[label]) image.data.set([...colours[label], 255 * CLASSES], 4 * i);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
    drawn = JSON.stringify([...hidden]);
  }

  return {
    paint(context, [tall, wide], view) {
      if (drawn !== JSON.stringify([...view.hidden])) draw(view.hidden);
      context.imageSmoothingEnabled = false;
      context.drawImage(canvas, 0, 0, wide, tall);
    },
    at(context, x, y, view, [tall, wide]) {
      const label = labels[Math.floor((y / tall) * height) * width + Math.floor((x / wide) * width)];
      return label === undefined || label === NO_CLASS ? "no data" : classes[label][0];
    },
    /** The share of each class, by name. */
    amounts: () =>
      new Map(
        classes.map(([name]) => {
          const share = (100 * (counts[name] ?? 0)) / total;
          return [name, !share ? "" : share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %`];
        }),
      ),
  };
}
