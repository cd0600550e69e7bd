// A photo's part with outlines on a small canvas, for answers side by side.

import { h } from "./dom.js";

const cache = new Map();

export function loadPhoto(url) {
  if (!cache.has(url)) {
    if (cache.size > 60) cache.clear();
    const image = new Image();
    image.src = url;
    cache.set(url, image.decode().then(() => image));
  }
  return cache.get(url);
}

// The part of the photo that holds all the quads, with some room; the whole photo without any.
export function around(quads, width, height) {
  const points = quads.flat();
  if (!points.length) return [0, 0, width, height];
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  const w = Math.max(...xs) - Math.min(...xs);
  const hh = Math.max(...ys) - Math.min(...ys);
  const cx = (Math.max(...xs) + Math.min(...xs)) / 2;
  const cy = (Math.max(...ys) + Math.min(...ys)) / 2;
  const bw = Math.min(width, Math.max(w * 1.5, hh * 2.2, 60));
  const bh = Math.min(height, bw * 0.62);
  const x = Math.min(width - bw, Math.max(0, cx - bw / 2));
  const y = Math.min(height - bh, Math.max(0, cy - bh / 2));
  return [x, y, bw, bh];
}

export function crop(url, box, layers) {
  const [x, y, w, hh] = box;
  const width = 420;
  const height = Math.round((width * hh) / w);
  const canvas = h("canvas", { width, height });
  loadPhoto(url).then((image) => {
    const ctx = canvas.getContext("2d");
    ctx.imageSmoothingEnabled = width / w < 3;
    ctx.drawImage(image, x, y, w, hh, 0, 0, width, height);
    const k = width / w;
    for (const layer of layers) {
      for (const quad of layer.quads) {
        for (const [style, line] of [["rgba(0,0,0,.6)", 5], [layer.colour, 2.5]]) {
          ctx.beginPath();
          quad.forEach(([px, py], i) => (i ? ctx.lineTo((px - x) * k, (py - y) * k) : ctx.moveTo((px - x) * k, (py - y) * k)));
          ctx.closePath();
          ctx.strokeStyle = style;
          ctx.lineWidth = line;
          ctx.stroke();
        }
      }
    }
  }).catch(() => {});
  return canvas;
}

export const COLOURS = ["#22d3ee", "#fbbf24", "#f472b6", "#a3e635", "#c084fc", "#fb923c", "#60a5fa"];
