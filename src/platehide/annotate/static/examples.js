// Drawn examples: what a good outline is, and what is not. No photo, no real plate.

import { h, s } from "./dom.js";

const PLATE = [[62, 84], [140, 72], [142, 93], [64, 106]];
const CASES = [
  { good: true, title: "Right", text: "Each corner on the plate's own corner, following its slant.",
    quad: PLATE },
  { good: false, title: "Too loose", text: "The outline has a margin. It must touch the plate.",
    quad: [[50, 72], [154, 58], [157, 106], [54, 121]] },
  { good: false, title: "A box", text: "An upright rectangle on a slanted plate misses its corners.",
    quad: [[62, 72], [142, 72], [142, 106], [62, 106]] },
  { good: false, title: "With the frame", text: "The dealer's frame and its lettering do not belong to it.",
    quad: [[58, 80], [144, 67], [147, 104], [61, 118]] },
];

function scene(quad, good) {
  const text = (pts) => pts.map((p) => p.join(",")).join(" ");
  return s("svg", { viewBox: "0 0 200 140", role: "img", "aria-hidden": "true", class: "example-picture" },
    s("rect", { width: 200, height: 140, fill: "#64748b" }),
    s("polygon", { points: "12,20 176,2 190,96 20,128", fill: "#1e3a5f" }),
    s("polygon", { points: "28,26 166,10 170,40 32,58", fill: "#93b4d4" }),
    s("polygon", { points: "20,66 46,62 50,84 22,88", fill: "#f8d34a" }),
    s("polygon", { points: "160,48 184,44 186,64 164,68", fill: "#f8d34a" }),
    s("polygon", { points: "58,80 144,67 147,104 61,118", fill: "#0f172a" }),
    s("polygon", { points: text(PLATE), fill: "#f8fafc" }),
    ...[0, 1, 2, 3, 4, 5].map((i) => s("rect", {
      x: 72 + i * 11, y: 84 - i * 1.7, width: 6, height: 13, fill: "#334155", transform: "rotate(-8 100 90)" })),
    s("polygon", { points: text(quad), fill: "none", stroke: good ? "#22c55e" : "#ef4444", "stroke-width": 2.5 }),
    ...quad.map(([x, y]) => s("circle", { cx: x, cy: y, r: 4, fill: "none", stroke: good ? "#22c55e" : "#ef4444", "stroke-width": 2 })));
}

export function examples() {
  return h("div", { class: "examples" }, CASES.map((c) =>
    h("figure", { class: c.good ? "good" : "bad" }, scene(c.quad, c.good),
      h("figcaption", {}, h("strong", {}, (c.good ? "✓ " : "✗ ") + c.title), h("br"), c.text))));
}
