// The stage: before and after under one slider, outlines, zoom, and corners that can be moved by
// pointer and by keyboard. Everything is in pixels of the displayed photo; `view` maps to the stage.

const CORNERS = ["top left corner", "top right corner", "bottom right corner", "bottom left corner"];
const WHOLE = 4; // the fifth handle moves the whole plate
const PER_PLATE = 5;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

export class Stage {
  constructor({ onEdit, say }) {
    this.onEdit = onEdit;
    this.say = say;
    this.root = $("stage");
    this.before = $("before");
    this.after = $("after");
    this.item = null;
    this.editing = false;
    this.zoomed = -1; // index of the plate that is zoomed to; -1: whole photo
    this.selected = 0;
    this.view = { scale: 1, x: 0, y: 0 };
    $("slider").addEventListener("input", () => this.split());
    $("show-outlines").addEventListener("change", () => this.draw());
    this.before.addEventListener("load", () => this.layout());
    this.after.addEventListener("load", () => this.layout());
    this.before.addEventListener("error", () => this.noPreview());
    new ResizeObserver(() => this.layout()).observe(this.root);
  }

  /** Width and height of the photo as displayed, or null while nothing is loaded. */
  get size() {
    for (const image of [this.before, this.after]) {
      if (image.getAttribute("src") && image.complete && image.naturalWidth) {
        return [image.naturalWidth, image.naturalHeight];
      }
    }
    return null;
  }

  show(item, { keepView = false } = {}) {
    const same = this.item === item;
    this.item = item;
    if (!same && !keepView) {
      this.zoomed = -1;
      this.selected = 0;
      $("slider").value = 50;
    }
    this.zoomed = Math.min(this.zoomed, item.quads.length - 1);
    this.selected = Math.max(0, Math.min(this.selected, item.quads.length - 1));
    const set = (image, url) => {
      if (!url) image.removeAttribute("src");
      else if (image.getAttribute("src") !== url) image.src = url;
    };
    set(this.before, item.url);
    set(this.after, item.afterUrl);
    this.before.alt = item.afterUrl ? "" : `${item.name}, original`;
    this.after.alt = item.afterUrl ? `${item.name}, finished, plates covered` : "";
    this.layout();
  }

  noPreview() {
    if (this.item && !this.item.afterUrl) {
      $("over").textContent = "Your browser cannot show this format. The result will be a JPEG.";
      $("over").hidden = false;
    }
  }

  setEditing(on) {
    this.editing = on;
    if (!on) this.zoomed = -1;
    else if (this.item && this.item.quads.length) this.zoomed = this.selected;
    this.layout();
  }

  zoomTo(index) {
    this.zoomed = index;
    if (index >= 0) this.selected = index;
    this.layout();
  }

  layout() {
    const size = this.size;
    if (!size || !this.item) return;
    const [width, height] = size;
    this.root.style.aspectRatio = `${width} / ${height}`;
    const box = this.root.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const fit = Math.min(box.width / width, box.height / height);
    let scale = fit;
    let centre = [width / 2, height / 2];
    const quad = this.item.quads[this.zoomed];
    if (quad) {
      const xs = quad.map((p) => p[0]);
      const ys = quad.map((p) => p[1]);
      const w = Math.max(...xs) - Math.min(...xs);
      const h = Math.max(...ys) - Math.min(...ys);
      scale = Math.max(fit, Math.min((0.5 * box.width) / Math.max(w, 8), (0.45 * box.height) / Math.max(h, 4), 24));
      centre = [(Math.max(...xs) + Math.min(...xs)) / 2, (Math.max(...ys) + Math.min(...ys)) / 2];
    }
    const clamp = (c, room, full) => {
      const half = room / 2 / scale;
      return full <= 2 * half ? full / 2 : Math.max(half, Math.min(full - half, c));
    };
    const cx = clamp(centre[0], box.width, width);
    const cy = clamp(centre[1], box.height, height);
    this.view = { scale, x: box.width / 2 - cx * scale, y: box.height / 2 - cy * scale };
    for (const image of [this.before, this.after]) {
      image.style.width = `${width}px`;
      image.style.height = `${height}px`;
      image.style.transform = `translate(${this.view.x}px, ${this.view.y}px) scale(${scale})`;
      image.classList.toggle("pixelated", scale > 4);
    }
    this.split();
    this.draw();
    this.chips();
  }

  toStage([x, y]) {
    return [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  }

  split() {
    const compare = !this.editing && Boolean(this.item && this.item.afterUrl);
    const value = compare ? Number($("slider").value) : 100;
    $("before-layer").style.clipPath = `inset(0 ${100 - value}% 0 0)`;
    $("divider").style.left = `${value}%`;
    for (const id of ["slider", "divider", "tag-before", "tag-after"]) $(id).hidden = !compare;
    $("tag-before").classList.toggle("faded", value < 14);
    $("tag-after").classList.toggle("faded", value > 86);
    $("slider").setAttribute("aria-valuetext", `${Math.round(value)} percent original`);
  }

  chips() {
    const box = $("zoom");
    const names = ["Whole photo", ...this.item.quads.map((_, i) => `Plate ${i + 1}`)];
    const had = box.contains(document.activeElement) ? [...box.children].indexOf(document.activeElement) : -1;
    box.replaceChildren(
      ...names.map((name, i) => {
        const chip = document.createElement("button");
        chip.type = "button";
        chip.textContent = name;
        chip.setAttribute("aria-pressed", String(this.zoomed === i - 1));
        chip.addEventListener("click", () => this.zoomTo(i - 1));
        return chip;
      }),
    );
    box.hidden = this.item.quads.length === 0;
    if (had >= 0 && box.children[had]) box.children[had].focus();
  }

  draw() {
    const shown = this.editing || $("show-outlines").checked;
    const quads = this.item ? this.item.quads : [];
    $("outlines").replaceChildren(
      ...(shown ? quads : []).map((quad, i) => {
        const polygon = document.createElementNS(SVG, "polygon");
        polygon.setAttribute("points", quad.map((p) => this.toStage(p).join(",")).join(" "));
        polygon.setAttribute("class", this.editing && i === this.selected ? "chosen" : "");
        return polygon;
      }),
    );
    this.drawHandles(this.editing ? quads : []);
  }

  drawHandles(quads) {
    const holder = $("handles");
    const wanted = quads.length * PER_PLATE;
    while (holder.children.length > wanted) holder.lastChild.remove();
    while (holder.children.length < wanted) holder.append(this.newHandle(holder.children.length));
    quads.forEach((quad, plate) => {
      const high = Math.hypot(quad[3][0] - quad[0][0], quad[3][1] - quad[0][1]) * this.view.scale;
      const side = Math.max(20, Math.min(44, high * 0.9)); // small plates: handles must not overlap
      [...quad, centre(quad)].forEach((point, part) => {
        const handle = holder.children[plate * PER_PLATE + part];
        const [x, y] = this.toStage(point);
        handle.style.left = `${x}px`;
        handle.style.top = `${y}px`;
        handle.style.setProperty("--side", `${side}px`);
        handle.classList.toggle("chosen", plate === this.selected);
        handle.classList.toggle("whole", part === WHOLE);
        const what = part === WHOLE ? "whole plate" : CORNERS[part];
        const place = `x ${Math.round(point[0])}, y ${Math.round(point[1])}`;
        handle.setAttribute("aria-label", `Plate ${plate + 1}, ${what}, ${place}`);
      });
    });
  }

  newHandle(index) {
    const handle = document.createElement("button");
    handle.type = "button";
    handle.className = "handle";
    const at = () => [Math.floor(index / PER_PLATE), index % PER_PLATE];
    handle.addEventListener("focus", () => this.select(at()[0]));
    handle.addEventListener("keydown", (event) => this.key(event, ...at()));
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      handle.focus({ preventScroll: true });
      handle.setPointerCapture(event.pointerId);
      const [plate, corner] = at();
      const grip = this.toStage(this.point(plate, corner));
      const offset = [event.clientX - grip[0], event.clientY - grip[1]];
      const move = (e) => {
        this.place(plate, corner, [
          (e.clientX - offset[0] - this.view.x) / this.view.scale,
          (e.clientY - offset[1] - this.view.y) / this.view.scale,
        ]);
        this.magnify(plate, corner);
      };
      const stop = () => {
        handle.removeEventListener("pointermove", move);
        $("loupe").hidden = true;
      };
      this.magnify(plate, corner);
      handle.addEventListener("pointermove", move);
      handle.addEventListener("pointerup", stop, { once: true });
      handle.addEventListener("pointercancel", stop, { once: true });
    });
    return handle;
  }

  select(plate) {
    if (this.selected === plate) return;
    this.selected = plate;
    if (this.zoomed >= 0) this.zoomed = plate;
    this.layout();
  }

  key(event, plate, corner) {
    const step = event.shiftKey ? 10 : 1;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!move) return;
    event.preventDefault();
    const [x, y] = this.point(plate, corner);
    this.place(plate, corner, [x + move[0], y + move[1]]);
    const [nx, ny] = this.point(plate, corner);
    this.say(`x ${Math.round(nx)}, y ${Math.round(ny)}`);
  }

  point(plate, part) {
    const quad = this.item.quads[plate];
    return part === WHOLE ? centre(quad) : quad[part];
  }

  place(plate, part, point) {
    const [width, height] = this.size;
    const inside = ([x, y]) => [Math.max(0, Math.min(width, x)), Math.max(0, Math.min(height, y))];
    let quad = this.item.quads[plate].map((p) => [...p]);
    if (part === WHOLE) {
      const [cx, cy] = centre(quad);
      const to = inside(point);
      quad = quad.map(([x, y]) => [x + to[0] - cx, y + to[1] - cy]);
    } else {
      quad[part] = inside(point);
    }
    if (!convex(quad)) return; // a crossed plate means nothing
    this.item.quads[plate] = quad;
    this.draw();
    this.onEdit();
  }

  magnify(plate, corner) {
    const loupe = $("loupe");
    const size = this.size;
    if (!size) return;
    const side = 120;
    const zoom = Math.max(3, this.view.scale * 2.5);
    const point = this.point(plate, corner);
    const [x, y] = this.toStage(point);
    const box = this.root.getBoundingClientRect();
    loupe.style.left = `${Math.max(0, Math.min(box.width - side, x - side / 2))}px`;
    loupe.style.top = `${y - side - 30 < 0 ? y + 30 : y - side - 30}px`;
    loupe.style.backgroundImage = `url("${this.before.src}")`;
    loupe.style.backgroundSize = `${size[0] * zoom}px ${size[1] * zoom}px`;
    loupe.style.backgroundPosition = `${side / 2 - point[0] * zoom}px ${side / 2 - point[1] * zoom}px`;
    loupe.hidden = false;
  }

  /** Put a new plate in the middle of what is shown. */
  add() {
    const size = this.size;
    if (!size) return;
    const [width, height] = size;
    const box = this.root.getBoundingClientRect();
    const cx = (box.width / 2 - this.view.x) / this.view.scale;
    const cy = (box.height * 0.62 - this.view.y) / this.view.scale;
    const w = Math.max(12, (0.22 * box.width) / this.view.scale);
    const h = w / 4.6;
    const left = Math.max(0, Math.min(width - w, cx - w / 2));
    const top = Math.max(0, Math.min(height - h, cy - h / 2));
    this.item.quads.push([[left, top], [left + w, top], [left + w, top + h], [left, top + h]]);
    this.selected = this.item.quads.length - 1;
    this.zoomed = -1;
    this.layout();
    this.onEdit();
    $("handles").children[this.selected * PER_PLATE + WHOLE].focus({ preventScroll: true });
    this.say(`Plate ${this.selected + 1} added; move it with the arrow keys`);
  }

  remove() {
    if (!this.item.quads.length) return;
    this.item.quads.splice(this.selected, 1);
    this.say(`Plate ${this.selected + 1} removed`);
    this.selected = Math.max(0, this.selected - 1);
    this.zoomed = -1;
    this.layout();
    this.onEdit();
  }
}

function centre(quad) {
  return [0, 1].map((axis) => quad.reduce((sum, p) => sum + p[axis], 0) / 4);
}

/** True when the quad is strictly convex and runs clockwise on the screen. */
export function convex(quad) {
  return quad.every((a, i) => {
    const b = quad[(i + 1) % 4];
    const c = quad[(i + 2) % 4];
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) > 1e-6;
  });
}
