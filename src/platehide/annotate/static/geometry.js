// Plane geometry for the editor. Points are {x, y} in pixels of the photo.

export function area(points) {
  let sum = 0;
  points.forEach((p, i) => {
    const q = points[(i + 1) % points.length];
    sum += p.x * q.y - q.x * p.y;
  });
  return sum / 2;
}

export function isConvex(points) {
  let sign = 0;
  for (let i = 0; i < points.length; i += 1) {
    const a = points[i];
    const b = points[(i + 1) % points.length];
    const c = points[(i + 2) % points.length];
    const cross = (b.x - a.x) * (c.y - b.y) - (b.y - a.y) * (c.x - b.x);
    if (Math.abs(cross) < 1e-9) return false;
    if (sign && Math.sign(cross) !== sign) return false;
    sign = Math.sign(cross);
  }
  return true;
}

// Four corners in any order → TL, TR, BR, BL, as the server orders them.
export function orderCorners(points) {
  const cx = points.reduce((t, p) => t + p.x, 0) / 4;
  const cy = points.reduce((t, p) => t + p.y, 0) / 4;
  const ring = [...points].sort((p, q) =>
    Math.atan2(p.y - cy, p.x - cx) - Math.atan2(q.y - cy, q.x - cx));
  const edges = ring.map((p, i) => {
    const q = ring[(i + 1) % 4];
    return { dx: q.x - p.x, dy: q.y - p.y, my: (p.y + q.y) / 2 };
  });
  const length = edges.map((e) => Math.hypot(e.dx, e.dy));
  const pair = length[0] + length[2] >= length[1] + length[3] ? 0 : 1;
  const across = Math.abs(edges[pair].dx) + Math.abs(edges[pair + 2].dx);
  const along = Math.abs(edges[pair].dy) + Math.abs(edges[pair + 2].dy);
  let start;
  if (across >= along) start = edges[pair].my <= edges[pair + 2].my ? pair : pair + 2;
  else {
    start = 0;
    ring.forEach((p, i) => { if (p.x + p.y < ring[start].x + ring[start].y) start = i; });
  }
  return [0, 1, 2, 3].map((i) => ring[(start + i) % 4]);
}

export function inside(point, polygon) {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const a = polygon[i];
    const b = polygon[j];
    if ((a.y > point.y) !== (b.y > point.y)
      && point.x < ((b.x - a.x) * (point.y - a.y)) / (b.y - a.y) + a.x) within = !within;
  }
  return within;
}

// The photo turned by quarter turns clockwise: photo → turned pixels, and back.
export function turned(p, turn, w, h) {
  if (turn === 1) return { x: h - p.y, y: p.x };
  if (turn === 2) return { x: w - p.x, y: h - p.y };
  if (turn === 3) return { x: p.y, y: w - p.x };
  return { x: p.x, y: p.y };
}

export function unturned(p, turn, w, h) {
  if (turn === 1) return { x: p.y, y: h - p.x };
  if (turn === 2) return { x: w - p.x, y: h - p.y };
  if (turn === 3) return { x: w - p.y, y: p.x };
  return { x: p.x, y: p.y };
}
