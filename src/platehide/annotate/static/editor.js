// The drawing tool: four corners round a plate, on a photo that zooms, pans and turns.
//
// Coordinates: "photo" = pixels of the photo, "screen" = CSS pixels of the canvas.

import { s } from "./dom.js";
import { area, inside, isConvex, orderCorners, turned, unturned } from "./geometry.js";

const HIT_MOUSE = 13;
const HIT_TOUCH = 28;
const TAP_SLACK = 6;
const LONG_PRESS_MS = 260;
const LOUPE = 64; // radius
const HINT = 40; // room for the line of words above the photo
const MAX_SCALE = 40;

export class Editor {
  // options: several (plates), changed() after every change, say(text) for hints
  constructor(canvas, options) {
    this.canvas = canvas;
    this.ctx = canvas.getContext("2d");
    this.options = { several: false, changed: () => {}, say: () => {}, readOnly: false, ...options };
    this.layers = []; // other quads to show, for experts: {quads, colour}
    this.clear();
    this.pointers = new Map();
    this.bind();
  }

  clear() {
    this.image = null;
    this.plates = [];
    this.draft = [];
    this.selected = null; // {plate: index | -1 for the draft, corner: index | null}
    this.flags = null;
    this.past = [];
    this.future = [];
    this.turn = 0;
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.bright = false;
    this.hidden = false;
    this.hover = null;
    this.keys = null; // keyboard crosshair, photo pixels
    this.action = null;
  }

  load(image, width, height, plates = []) {
    this.clear();
    this.image = image;
    this.width = width;
    this.height = height;
    this.plates = plates.map((q) => q.map(([x, y]) => ({ x, y })));
    this.proposed = plates.length > 0;
    this.resize();
    this.fit();
    this.changed();
  }

  // What is drawn ---------------------------------------------------------------------------

  get complete() {
    return this.plates.length > 0 && this.draft.length === 0;
  }

  answer() {
    return this.plates.map((q) => q.map((p) => [round2(p.x), round2(p.y)]));
  }

  snapshot() {
    return JSON.stringify({ plates: this.plates, draft: this.draft });
  }

  // Call before a change. Changes with the same tag in a row (nudges) undo together.
  remember(tag = null) {
    if (tag === null || tag !== this.lastTag) this.past.push(this.snapshot());
    this.lastTag = tag;
    this.future = [];
    this.flags = null;
    if (this.past.length > 200) this.past.shift();
  }

  undo() {
    if (!this.past.length) return;
    this.future.push(this.snapshot());
    this.restore(this.past.pop());
  }

  redo() {
    if (!this.future.length) return;
    this.past.push(this.snapshot());
    this.restore(this.future.pop());
  }

  restore(text) {
    const { plates, draft } = JSON.parse(text);
    this.plates = plates;
    this.draft = draft;
    this.selected = null;
    this.flags = null;
    this.lastTag = null;
    this.changed();
  }

  changed() {
    this.options.changed(this);
    this.draw();
  }

  clampToPhoto(p) {
    return {
      x: Math.min(this.width, Math.max(0, p.x)),
      y: Math.min(this.height, Math.max(0, p.y)),
    };
  }

  place(photo, byKeys = false) {
    if (this.options.readOnly) return;
    if (!this.options.several && this.plates.length && !this.draft.length) {
      this.options.say("The plate has its four corners. Drag a corner, or press Delete to start again.");
      return;
    }
    const p = this.clampToPhoto(photo);
    if (this.draft.some((q) => Math.hypot(q.x - p.x, q.y - p.y) * this.view.scale < 4)) {
      this.options.say("There is a corner here already.");
      return;
    }
    this.remember();
    this.draft.push(p);
    this.selected = byKeys ? null : { plate: -1, corner: this.draft.length - 1 };
    if (!byKeys) this.keys = null;
    if (this.draft.length === 4) this.close(p);
    this.changed();
  }

  close(last) {
    const { width: w, height: h, turn } = this;
    const quad = orderCorners(this.draft.map((p) => turned(p, turn, w, h))).map((p) => unturned(p, turn, w, h));
    if (!isConvex(quad) || Math.abs(area(quad)) < 6) {
      this.draft.pop();
      this.past.pop();
      this.options.say("These four points do not span a plate: one lies inside the others. Place the fourth again.");
      return;
    }
    this.draft = [];
    this.plates.push(quad);
    const plate = this.plates.length - 1;
    this.selected = { plate, corner: quad.findIndex((p) => p.x === last.x && p.y === last.y) };
    this.keys = null;
    this.options.closed?.(this);
  }

  removeSelected() {
    if (this.draft.length) {
      this.remember();
      this.draft.pop();
      this.selected = null;
    } else if (this.plates.length) {
      this.remember();
      const index = this.selected ? this.selected.plate : this.plates.length - 1;
      this.plates.splice(index < 0 ? this.plates.length - 1 : index, 1);
      this.selected = null;
    }
    this.changed();
  }

  points(plate) {
    return plate < 0 ? this.draft : this.plates[plate];
  }

  selectCorner(corner) {
    if (this.draft.length) {
      if (corner < this.draft.length) this.selected = { plate: -1, corner };
    } else if (this.plates.length) {
      const plate = this.selected && this.selected.plate >= 0 ? this.selected.plate : this.plates.length - 1;
      this.selected = { plate, corner };
    }
    this.keys = null;
    this.reveal();
    this.draw();
  }

  nextPlate() {
    if (!this.plates.length) return;
    const now = this.selected && this.selected.plate >= 0 ? this.selected.plate : -1;
    this.selected = { plate: (now + 1) % this.plates.length, corner: null };
    this.draw();
  }

  moveSelected(dx, dy, tag) {
    const { plate, corner } = this.selected;
    const points = this.points(plate);
    if (!points) return;
    this.remember(tag);
    const moved = points.map((p, i) =>
      (corner === null || corner === i ? this.clampToPhoto({ x: p.x + dx, y: p.y + dy }) : p));
    if (plate < 0) this.draft = moved;
    else this.plates[plate] = moved;
    this.changed();
  }

  // Problems that the server would refuse, in words; "" when it can be sent.
  problem() {
    if (this.draft.length) return `${4 - this.draft.length} more corner${this.draft.length === 3 ? "" : "s"} to place.`;
    for (const quad of this.plates) {
      if (!isConvex(quad) || Math.abs(area(quad)) < 6) return "The outline is folded: drag its corners apart.";
    }
    return "";
  }

  // View ------------------------------------------------------------------------------------

  get turnedSize() {
    return this.turn % 2 ? [this.height, this.width] : [this.width, this.height];
  }

  toScreen(p) {
    const t = turned(p, this.turn, this.width, this.height);
    return { x: t.x * this.view.scale + this.view.x, y: t.y * this.view.scale + this.view.y };
  }

  toPhoto(s) {
    const t = { x: (s.x - this.view.x) / this.view.scale, y: (s.y - this.view.y) / this.view.scale };
    return unturned(t, this.turn, this.width, this.height);
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    this.box = { w: box.width, h: box.height };
    this.canvas.width = Math.max(1, Math.round(box.width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * ratio));
    this.ratio = ratio;
    if (this.image) {
      if (this.fitted) this.fit();
      else this.keepInView();
      this.draw();
    }
  }

  fitScale() {
    const [w, h] = this.turnedSize;
    return Math.min((this.box.w - 16) / w, (this.box.h - 8 - HINT) / h);
  }

  fit() {
    const [w, h] = this.turnedSize;
    const scale = this.fitScale();
    this.view = { scale, x: (this.box.w - w * scale) / 2, y: HINT + (this.box.h - HINT - 4 - h * scale) / 2 };
    this.fitted = true;
    this.draw();
  }

  // Zoom so that the plate (or the whole photo, when it is already so) fills the stage.
  focus() {
    const points = this.plates.length ? this.points(this.selected && this.selected.plate >= 0 ? this.selected.plate : 0) : this.draft;
    if (!this.fitted || points.length < 2) {
      this.fit();
      return;
    }
    const t = points.map((p) => turned(p, this.turn, this.width, this.height));
    const xs = t.map((p) => p.x);
    const ys = t.map((p) => p.y);
    const w = Math.max(...xs) - Math.min(...xs);
    const h = Math.max(...ys) - Math.min(...ys);
    const scale = Math.min(MAX_SCALE, Math.max(this.fitScale(), Math.min(this.box.w / (w * 1.7 + 20), this.box.h / (h * 1.7 + 20))));
    const cx = (Math.max(...xs) + Math.min(...xs)) / 2;
    const cy = (Math.max(...ys) + Math.min(...ys)) / 2;
    this.view = { scale, x: this.box.w / 2 - cx * scale, y: this.box.h / 2 - cy * scale };
    this.fitted = false;
    this.draw();
  }

  // Width or height of the newest plate as a share of the stage, whichever is larger.
  plateShare() {
    const q = this.plates[this.plates.length - 1].map((p) => this.toScreen(p));
    const span = (k) => Math.max(...q.map((p) => p[k])) - Math.min(...q.map((p) => p[k]));
    return Math.max(span("x") / this.box.w, span("y") / this.box.h);
  }

  zoom(factor, centre = null) {
    if (!this.image) return;
    const at = centre || this.anchor();
    const least = this.fitScale() * 0.8;
    const scale = Math.min(MAX_SCALE, Math.max(least, this.view.scale * factor));
    const k = scale / this.view.scale;
    this.view = { scale, x: at.x - (at.x - this.view.x) * k, y: at.y - (at.y - this.view.y) * k };
    this.fitted = false;
    this.keepInView();
    this.draw();
  }

  // Where keyboard and button zooms aim: the crosshair, the chosen corner, else the middle.
  anchor() {
    if (this.keys) return this.toScreen(this.keys);
    if (this.selected) {
      const points = this.points(this.selected.plate);
      const p = points && points[this.selected.corner ?? 0];
      if (p) return this.toScreen(p);
    }
    return { x: this.box.w / 2, y: this.box.h / 2 };
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.keepInView();
    this.draw();
  }

  keepInView() {
    const [w, h] = this.turnedSize.map((v) => v * this.view.scale);
    const slack = 60;
    this.view.x = Math.min(this.box.w - slack, Math.max(slack - w, this.view.x));
    this.view.y = Math.min(this.box.h - slack, Math.max(slack - h, this.view.y));
  }

  rotate(quarter) {
    this.turn = (this.turn + quarter + 4) % 4;
    this.fit();
    this.changed();
  }

  reveal() {
    const p = this.keys ? this.toScreen(this.keys) : this.selected ? this.anchor() : null;
    if (!p) return;
    const edge = 40;
    let dx = 0;
    let dy = 0;
    if (p.x < edge) dx = edge - p.x;
    if (p.x > this.box.w - edge) dx = this.box.w - edge - p.x;
    if (p.y < edge) dy = edge - p.y;
    if (p.y > this.box.h - edge) dy = this.box.h - edge - p.y;
    if (dx || dy) this.pan(dx, dy);
  }

  // Keyboard --------------------------------------------------------------------------------

  // Arrows: nudge what is chosen by a pixel of the photo, else move the crosshair.
  arrow(dx, dy, event) {
    const back = [{ x: 0, y: 0 }, { x: dx, y: dy }].map((p) => unturned(p, this.turn, this.width, this.height));
    const ux = back[1].x - back[0].x;
    const uy = back[1].y - back[0].y;
    if (this.selected && !this.options.readOnly) {
      const step = event.shiftKey ? 10 : event.altKey ? 0.25 : 1;
      this.moveSelected(ux * step, uy * step, `nudge ${this.selected.plate} ${this.selected.corner}`);
      this.reveal();
      return;
    }
    const screenStep = event.shiftKey ? 60 : event.altKey ? 1 : 12;
    const step = screenStep / this.view.scale;
    if (!this.keys) this.keys = this.clampToPhoto(this.toPhoto({ x: this.box.w / 2, y: this.box.h / 2 }));
    else this.keys = this.clampToPhoto({ x: this.keys.x + ux * step, y: this.keys.y + uy * step });
    this.hover = null;
    this.reveal();
    this.draw();
  }

  deselect() {
    this.selected = null;
    this.keys = null;
    this.draw();
  }

  // True when the key was for the editor.
  key(event) {
    if (!this.image) return false;
    const k = event.key;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (arrows[k]) this.arrow(...arrows[k], event);
    else if (event.ctrlKey || event.metaKey) {
      if (k.toLowerCase() === "z") event.shiftKey ? this.redo() : this.undo();
      else if (k.toLowerCase() === "y") this.redo();
      else return false;
    } else if (k === " ") {
      if (this.keys) this.place(this.keys, true);
      else this.arrow(0, 0, event);
    } else if (k === "z" || k === "Z") this.undo();
    else if (k === "y" || k === "Y") this.redo();
    else if (k === "+" || k === "=") this.zoom(1.3);
    else if (k === "-" || k === "_") this.zoom(1 / 1.3);
    else if (k === "0") this.fit();
    else if (k === "f" || k === "F") this.focus();
    else if (k === "r") this.rotate(1);
    else if (k === "R") this.rotate(-1);
    else if (k === "b" || k === "B") this.toggleBright();
    else if (k === "h" || k === "H") this.setHidden(!this.hidden);
    else if (k === "Delete" || k === "Backspace") this.removeSelected();
    else if (k === "Escape") this.deselect();
    else if (k >= "1" && k <= "4") this.selectCorner(Number(k) - 1);
    else if (k === "5" && this.plates.length) {
      this.selected = { plate: this.selected && this.selected.plate >= 0 ? this.selected.plate : 0, corner: null };
      this.draw();
    } else if (k === "p" || k === "P") this.nextPlate();
    else return false;
    return true;
  }

  toggleBright() {
    this.bright = !this.bright;
    this.draw();
  }

  setHidden(hidden) {
    this.hidden = hidden;
    this.draw();
  }

  // Pointer ---------------------------------------------------------------------------------

  bind() {
    const c = this.canvas;
    c.addEventListener("pointerdown", (e) => this.down(e));
    c.addEventListener("pointermove", (e) => this.move(e));
    c.addEventListener("pointerup", (e) => this.up(e, true));
    c.addEventListener("pointercancel", (e) => this.up(e, false));
    c.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
    c.addEventListener("contextmenu", (e) => e.preventDefault());
    c.addEventListener("wheel", (e) => {
      e.preventDefault();
      if (!this.image) return;
      const unit = e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? 400 : 1;
      if (e.shiftKey) this.pan(-(e.deltaX || e.deltaY) * unit, e.deltaX ? -e.deltaY * unit : 0);
      else this.zoom(Math.exp(-Math.max(-240, Math.min(240, e.deltaY * unit)) / (e.ctrlKey ? 120 : 400)), this.at(e));
    }, { passive: false });
    new ResizeObserver(() => this.resize()).observe(c);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  hit(screen, touch) {
    let best = null;
    const look = (points, plate) => points.forEach((p, corner) => {
      const q = this.toScreen(p);
      // Small plates: corners must not swallow the inside, by which the plate is dragged.
      const next = points.length > 1 ? this.toScreen(points[(corner + 1) % points.length]) : null;
      const edge = plate >= 0 && next ? Math.hypot(q.x - next.x, q.y - next.y) : Infinity;
      const reach = Math.max(touch ? 16 : 8, Math.min(touch ? HIT_TOUCH : HIT_MOUSE, edge * 0.4));
      const d = Math.hypot(q.x - screen.x, q.y - screen.y);
      if (d <= reach && (!best || d < best.d)) best = { d, plate, corner };
    });
    this.plates.forEach((quad, i) => look(quad, i));
    look(this.draft, -1);
    if (best) return { plate: best.plate, corner: best.corner };
    if (!this.draft.length) {
      const photo = this.toPhoto(screen);
      for (let i = this.plates.length - 1; i >= 0; i -= 1) {
        if (inside(photo, this.plates[i])) return { plate: i, corner: null };
      }
    }
    return null;
  }

  down(event) {
    if (!this.image) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch { /* the pointer is gone already */ }
    const screen = this.at(event);
    const touch = event.pointerType !== "mouse";
    this.pointers.set(event.pointerId, screen);
    clearTimeout(this.press);
    if (this.pointers.size === 2) {
      this.cancelAction();
      this.action = { kind: "pinch", ...this.pinch() };
      return;
    }
    if (this.pointers.size > 2) return;
    if (event.button > 0 || event.getModifierState?.("Control")) {
      this.action = { kind: "pan", last: screen };
      return;
    }
    const hit = this.options.readOnly ? null : this.hit(screen, touch);
    // While corners are being placed, a click near a placed one is a drag of that one.
    if (hit) {
      const p = this.points(hit.plate)[hit.corner ?? 0];
      const q = this.toScreen(p);
      this.action = {
        kind: "drag", ...hit, touch, start: screen, moved: false, before: this.snapshot(),
        offset: { x: q.x - screen.x, y: q.y - screen.y },
      };
      this.selected = hit;
      this.keys = null;
      this.draw();
      return;
    }
    this.action = { kind: "tap", start: screen, last: screen, touch };
    if (touch && !this.options.readOnly) {
      this.press = setTimeout(() => {
        if (this.action && this.action.kind === "tap") {
          this.action = { kind: "aim", last: this.action.last, touch: true };
          this.options.say("Slide to the corner, then let go.");
          this.draw();
        }
      }, LONG_PRESS_MS);
    }
  }

  move(event) {
    if (!this.image) return;
    const screen = this.at(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, screen);
    const act = this.action;
    if (!act) {
      if (event.pointerType === "mouse") {
        this.hover = screen;
        this.keys = null;
        this.draw();
      }
      return;
    }
    if (act.kind === "pinch") {
      if (this.pointers.size < 2) return;
      const now = this.pinch();
      this.view.x += now.x - act.x;
      this.view.y += now.y - act.y;
      this.zoom(now.spread / Math.max(1, act.spread), now);
      Object.assign(act, now);
    } else if (act.kind === "pan") {
      this.pan(screen.x - act.last.x, screen.y - act.last.y);
      act.last = screen;
    } else if (act.kind === "drag") {
      const slack = act.touch ? TAP_SLACK : 2;
      if (!act.moved && Math.hypot(screen.x - act.start.x, screen.y - act.start.y) < slack) return;
      if (!act.moved) {
        act.moved = true;
        this.remember();
      }
      this.drag(act, screen);
    } else if (act.kind === "tap") {
      act.last = screen;
      if (Math.hypot(screen.x - act.start.x, screen.y - act.start.y) > TAP_SLACK) {
        clearTimeout(this.press);
        this.action = { kind: "pan", last: screen };
        this.pan(screen.x - act.start.x, screen.y - act.start.y);
      }
    } else if (act.kind === "aim") {
      act.last = screen;
      this.draw();
    }
  }

  drag(act, screen) {
    const wanted = this.toPhoto({ x: screen.x + act.offset.x, y: screen.y + act.offset.y });
    const points = this.points(act.plate);
    if (act.corner === null) {
      // The whole plate; it stays on the photo.
      let dx = wanted.x - points[0].x;
      let dy = wanted.y - points[0].y;
      dx = Math.min(this.width - Math.max(...points.map((p) => p.x)), Math.max(-Math.min(...points.map((p) => p.x)), dx));
      dy = Math.min(this.height - Math.max(...points.map((p) => p.y)), Math.max(-Math.min(...points.map((p) => p.y)), dy));
      const moved = points.map((p) => ({ x: p.x + dx, y: p.y + dy }));
      this.plates[act.plate] = moved;
    } else points[act.corner] = this.clampToPhoto(wanted);
    act.last = screen;
    this.changed();
  }

  up(event, finished) {
    clearTimeout(this.press);
    const screen = this.at(event);
    this.pointers.delete(event.pointerId);
    const act = this.action;
    if (!act) return;
    if (act.kind === "pinch") {
      if (this.pointers.size === 0) this.action = null;
      return;
    }
    this.action = null;
    if ((act.kind === "drag" && act.moved) || act.kind === "aim") this.options.say("");
    // On a tiny plate the next corner lies within reach of the last: a click there is a corner.
    const near = act.kind === "drag" && !act.moved && this.draft.length > 0;
    if (finished && (act.kind === "tap" || act.kind === "aim" || near)) {
      const photo = this.toPhoto(screen);
      const slack = 12 / this.view.scale;
      const on = photo.x > -slack && photo.y > -slack && photo.x < this.width + slack && photo.y < this.height + slack;
      if (on) this.place(photo);
    }
    this.draw();
  }

  cancelAction() {
    if (this.action && this.action.kind === "drag" && this.action.moved) this.undo();
    this.action = null;
  }

  pinch() {
    const [a, b] = [...this.pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, spread: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  // Drawing ---------------------------------------------------------------------------------

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paint();
    });
  }

  photoMatrix(scale, ox, oy) {
    const { width: w, height: h } = this;
    if (this.turn === 1) return [0, scale, -scale, 0, scale * h + ox, oy];
    if (this.turn === 2) return [-scale, 0, 0, -scale, scale * w + ox, scale * h + oy];
    if (this.turn === 3) return [0, -scale, scale, 0, ox, scale * w + oy];
    return [scale, 0, 0, scale, ox, oy];
  }

  paintPhoto(scale, ox, oy) {
    const { ctx, ratio } = this;
    ctx.save();
    const m = this.photoMatrix(scale * ratio, ox * ratio, oy * ratio);
    ctx.setTransform(...m);
    ctx.imageSmoothingEnabled = scale < 10;
    ctx.imageSmoothingQuality = "high";
    if (this.bright) ctx.filter = lifting();
    ctx.drawImage(this.image, 0, 0, this.width, this.height);
    ctx.restore();
  }

  paint() {
    const { ctx, ratio } = this;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.image) return;
    this.paintPhoto(this.view.scale, this.view.x, this.view.y);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.hidden) this.paintShapes((p) => this.toScreen(p), true);
    this.paintAim();
  }

  paintShapes(place, handles) {
    const { ctx } = this;
    for (const layer of this.layers) {
      for (const quad of layer.quads) {
        this.outline(quad.map(([x, y]) => place({ x, y })), layer.colour, true);
      }
    }
    this.plates.forEach((quad, plate) => {
      const q = quad.map(place);
      this.outline(q, "#22d3ee", true);
      if (handles) q.forEach((p, corner) => this.handle(p, plate, corner, quad));
    });
    if (this.draft.length) {
      const q = this.draft.map(place);
      const tip = this.aimPoint();
      const open = tip && handles ? [...q, tip] : q;
      const path = open.length === 4 ? orderCorners(open) : open; // whatever order they came in
      this.outline(path, "#fbbf24", this.draft.length === 3);
      if (handles) q.forEach((p, corner) => this.handle(p, -1, corner, this.draft));
    }
    ctx.setLineDash([]);
  }

  outline(points, colour, closed) {
    const { ctx } = this;
    for (const [style, width] of [["rgba(0,0,0,.65)", 4], [colour, 1.75]]) {
      ctx.beginPath();
      points.forEach((p, i) => (i ? ctx.lineTo(p.x, p.y) : ctx.moveTo(p.x, p.y)));
      if (closed) ctx.closePath();
      ctx.strokeStyle = style;
      ctx.lineWidth = width;
      ctx.stroke();
    }
  }

  handle(p, plate, corner) {
    const { ctx } = this;
    const chosen = this.selected && this.selected.plate === plate
      && (this.selected.corner === corner || this.selected.corner === null);
    const flag = this.flags && plate >= 0 && this.flags[plate] ? this.flags[plate][corner] : null;
    const colour = flag === false ? "#f87171" : flag === true ? "#4ade80" : plate < 0 ? "#fbbf24" : "#22d3ee";
    ctx.beginPath();
    ctx.arc(p.x, p.y, chosen ? 7 : 5, 0, 2 * Math.PI);
    ctx.lineWidth = 4;
    ctx.strokeStyle = "rgba(0,0,0,.7)";
    ctx.stroke();
    ctx.lineWidth = 2;
    ctx.strokeStyle = chosen ? "#fff" : colour;
    ctx.stroke();
    // The very corner stays visible inside the ring.
    ctx.fillStyle = colour;
    ctx.fillRect(p.x - 0.75, p.y - 0.75, 1.5, 1.5);
    if (corner === 0 || plate < 0) {
      // The first corner carries its number.
      const label = String(corner + 1);
      ctx.font = "600 12px system-ui, sans-serif";
      const at = this.labelPlace(p, plate);
      ctx.lineWidth = 3;
      ctx.strokeStyle = "rgba(0,0,0,.8)";
      ctx.strokeText(label, at.x, at.y);
      ctx.fillStyle = colour;
      ctx.fillText(label, at.x, at.y);
    }
  }

  labelPlace(p, plate) {
    const points = this.points(plate);
    const c = this.toScreen({
      x: points.reduce((t, q) => t + q.x, 0) / points.length,
      y: points.reduce((t, q) => t + q.y, 0) / points.length,
    });
    const away = Math.hypot(p.x - c.x, p.y - c.y) || 1;
    const k = 17 / away;
    return away > 1
      ? { x: p.x + (p.x - c.x) * k - 3.5, y: p.y + (p.y - c.y) * k + 4 }
      : { x: p.x + 10, y: p.y - 8 };
  }

  // Where the next corner would be: finger, mouse or keyboard crosshair (screen).
  aimPoint() {
    const act = this.action;
    if (act && act.kind === "aim") return act.last;
    if (this.keys) return this.toScreen(this.keys);
    if (!act && this.hover) return this.hover;
    return null;
  }

  paintAim() {
    const { ctx } = this;
    const act = this.action;
    let focus = null;
    let touch = false;
    if (act && act.kind === "drag" && act.moved && act.corner !== null) {
      focus = this.toScreen(this.points(act.plate)[act.corner]);
      touch = act.touch;
    } else if (act && act.kind === "aim") {
      focus = act.last;
      touch = true;
    } else if (this.keys) focus = this.toScreen(this.keys);
    else if (!act && this.hover && !this.options.readOnly && (this.options.several || !this.plates.length)
      && !this.hit(this.hover, false)) focus = this.hover;
    if (!focus) return;
    if (this.keys || (act && act.kind === "aim")) this.crosshair(focus, 18, "#fbbf24");
    if (this.view.scale < 4 || touch) this.loupe(focus, touch);
  }

  crosshair(p, size, colour) {
    const { ctx } = this;
    for (const [style, width] of [["rgba(0,0,0,.7)", 3], [colour, 1]]) {
      ctx.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        ctx.moveTo(p.x + dx * 4, p.y + dy * 4);
        ctx.lineTo(p.x + dx * size, p.y + dy * size);
      }
      ctx.strokeStyle = style;
      ctx.lineWidth = width;
      ctx.stroke();
    }
  }

  loupe(focus, touch) {
    const { ctx, ratio } = this;
    const r = touch ? LOUPE + 6 : LOUPE;
    const gap = touch ? 44 : 26;
    let cx = touch ? focus.x : focus.x + gap + r;
    let cy = touch ? focus.y - gap - r : focus.y - gap - r;
    if (!touch && cx + r > this.box.w) cx = focus.x - gap - r;
    if (cy - r < 0) {
      cy = touch ? Math.max(r + 4, focus.y - 20) : focus.y + gap + r;
      if (touch) cx = focus.x + (focus.x > this.box.w / 2 ? -1 : 1) * (r + gap + 20);
    }
    cx = Math.min(this.box.w - r - 4, Math.max(r + 4, cx));
    const zoom = Math.min(16, Math.max(this.view.scale * 3.5, 3));
    const photo = this.toPhoto(focus);
    const t = turned(photo, this.turn, this.width, this.height);
    const ox = cx - t.x * zoom;
    const oy = cy - t.y * zoom;
    ctx.save();
    ctx.beginPath();
    ctx.arc(cx, cy, r, 0, 2 * Math.PI);
    ctx.fillStyle = "#111";
    ctx.fill();
    ctx.clip();
    this.paintPhoto(zoom, ox, oy);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.hidden) {
      const place = (p) => {
        const q = turned(p, this.turn, this.width, this.height);
        return { x: q.x * zoom + ox, y: q.y * zoom + oy };
      };
      for (const quad of this.plates) this.thin(quad.map(place), true);
      if (this.draft.length) this.thin([...this.draft.map(place), { x: cx, y: cy }], false);
    }
    this.crosshair({ x: cx, y: cy }, r, "rgba(255,255,255,.9)");
    ctx.restore();
    ctx.beginPath();
    ctx.arc(cx, cy, r, 0, 2 * Math.PI);
    ctx.lineWidth = 3;
    ctx.strokeStyle = "rgba(0,0,0,.7)";
    ctx.stroke();
    ctx.lineWidth = 1.5;
    ctx.strokeStyle = "#fff";
    ctx.stroke();
  }

  thin(points, closed) {
    const { ctx } = this;
    ctx.beginPath();
    points.forEach((p, i) => (i ? ctx.lineTo(p.x, p.y) : ctx.moveTo(p.x, p.y)));
    if (closed) ctx.closePath();
    ctx.strokeStyle = "rgba(34,211,238,.85)";
    ctx.lineWidth = 1;
    ctx.stroke();
  }
}

// A gamma curve: it opens the shadows and leaves the lights alone, which a mere multiplication
// of the brightness does not (a black plate on a black car stayed black).
let lift = null;
function lifting() {
  if (!lift) {
    const channel = (name) => s(name, { type: "gamma", amplitude: 1, exponent: 0.42, offset: 0 });
    lift = s("svg", { width: 0, height: 0, "aria-hidden": "true", class: "visually-hidden" },
      s("filter", { id: "lift-shadows", "color-interpolation-filters": "sRGB" },
        s("feComponentTransfer", {}, channel("feFuncR"), channel("feFuncG"), channel("feFuncB"))));
    document.body.append(lift);
  }
  return "url(#lift-shadows)";
}

function round2(v) {
  return Math.round(v * 100) / 100;
}
