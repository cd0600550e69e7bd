// Plots as inline SVG. Every plot has a title and a text that says what it shows.

import { h, s } from "./dom.js";

const W = 360;
const H = 190;
const M = { left: 42, right: 10, top: 12, bottom: 30 };

function frame(title, text, ...content) {
  return h("figure", { class: "card plot" },
    h("figcaption", {}, h("strong", {}, title), h("div", { class: "soft small" }, text)),
    s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}. ${text}` }, content));
}

export function nice(max) {
  if (max <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 2.5, 5, 10].map((k) => k * power).find((v) => v >= max - 1e-12);
}

function axes(max, label, digits = 0) {
  const y = (v) => H - M.bottom - (v / max) * (H - M.top - M.bottom);
  const ticks = [0, max / 2, max];
  return [
    ...ticks.map((v) => s("line", { class: v ? "grid" : "axis", x1: M.left, x2: W - M.right, y1: y(v), y2: y(v) })),
    ...ticks.map((v) => s("text", { x: M.left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toLocaleString("en", { maximumFractionDigits: v % 1 ? Math.max(digits, 1) : digits }))),
    label ? s("text", { x: M.left, y: H - 6 }, label[0]) : "",
    label ? s("text", { x: W - M.right, y: H - 6, "text-anchor": "end" }, label[1]) : "",
  ];
}

export function bars(title, text, values, labels, options = {}) {
  const max = nice(Math.max(1, ...values));
  const step = (W - M.left - M.right) / values.length;
  const height = (v) => (v / max) * (H - M.top - M.bottom);
  return frame(title, text, axes(max, options.ends),
    values.map((v, i) => s("rect", {
      class: `bar ${(options.classes && options.classes[i]) || ""}`,
      x: M.left + i * step + step * 0.1, width: Math.max(1, step * 0.8), y: H - M.bottom - height(v), height: height(v),
    }, s("title", {}, `${labels[i]}: ${v}`))),
    options.ends ? [] : labels.map((t, i) => s("text", { x: M.left + (i + 0.5) * step, y: H - 12, "text-anchor": "middle" }, t)));
}

export function line(title, text, counts, ends, total) {
  const values = [0, ...counts]; // the curve begins at nothing
  const max = nice(Math.max(1, total || 0, ...values));
  const x = (i) => M.left + (i / Math.max(1, values.length - 1)) * (W - M.left - M.right);
  const y = (v) => H - M.bottom - (v / max) * (H - M.top - M.bottom);
  return frame(title, text, axes(max, ends),
    total ? s("line", { class: "axis", x1: M.left, x2: W - M.right, y1: y(total), y2: y(total), "stroke-dasharray": "5 3" }) : "",
    s("polyline", { class: "line", points: values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
}

// points: {x, y, title, kind}
export function scatter(title, text, points, xs, ys) {
  const mx = nice(Math.max(0.0001, ...points.map((p) => p.x)));
  const my = ys.max || nice(Math.max(0.0001, ...points.map((p) => p.y)));
  const x = (v) => M.left + (v / mx) * (W - M.left - M.right);
  const y = (v) => H - M.bottom - (v / my) * (H - M.top - M.bottom);
  return frame(title, text, axes(my, [`${xs.label}: 0`, mx.toLocaleString("en")], 1),
    points.map((p) => s("circle", { class: `dot ${p.kind || ""}`, cx: x(p.x), cy: y(p.y), r: 5 }, s("title", {}, p.title))));
}
