// The drawing tool in a dialog, for experts: all answers below, one's own on top.

import { COLOURS, loadPhoto } from "./crops.js";
import { h } from "./dom.js";
import { Editor } from "./editor.js";
import { photoUrl } from "./reviewing.js";

// Resolves with the plates that were drawn, or null when it was closed.
export function drawPlates(project, photo, several) {
  return new Promise((resolve) => {
    const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Photo with all answers" });
    const hint = h("span", { role: "status", "aria-live": "polite" }, "Draw the corners over the answers");
    const save = h("button", { type: "button", class: "primary" }, "Save ", h("kbd", {}, "Enter"));
    const cancel = h("button", { type: "button" }, "Cancel ", h("kbd", {}, "Esc"));
    const best = photo.label && photo.label.plates.length
      ? h("button", { type: "button" }, "Start from the label") : null;
    const dialog = h("dialog", { class: "draw" },
      h("div", { class: "stage draw-stage" }, canvas, h("div", { class: "hint" }, hint)),
      h("div", { class: "tools" }, best, h("button", { type: "button", onclick: () => editor.undo() }, "Undo ", h("kbd", {}, "Z")),
        h("button", { type: "button", onclick: () => editor.focus() }, "Zoom ", h("kbd", {}, "F")), cancel, save));
    document.body.append(dialog);
    const editor = new Editor(canvas, {
      several,
      say: (text) => { if (text) hint.textContent = text; },
      changed: (e) => { save.disabled = !e.complete || Boolean(e.problem()); },
    });
    const done = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    save.addEventListener("click", () => done(editor.answer()));
    cancel.addEventListener("click", () => done(null));
    if (best) {
      best.addEventListener("click", () => {
        editor.remember();
        editor.draft = [];
        editor.plates = photo.label.plates.map((p) => p.quad.map(([x, y]) => ({ x, y })));
        editor.changed();
      });
    }
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); done(null); });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.closest("button")) return;
      if (event.key === "Escape") return;
      if (event.key === "Enter") {
        if (!save.disabled) done(editor.answer());
      } else if (!editor.key(event)) return;
      event.preventDefault();
    });
    dialog.showModal();
    loadPhoto(photoUrl(project, photo.photo)).then((image) => {
      editor.layers = photo.answers.filter((a) => a.counts).map((a, i) => ({
        quads: a.answer.plates || [], colour: COLOURS[i % COLOURS.length] }));
      editor.load(image, photo.width, photo.height);
      canvas.focus();
    });
  });
}
