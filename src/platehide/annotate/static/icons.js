// Line icons, drawn here.
import { s } from "./dom.js";

const PATHS = {
  undo: ["M9 7 L4 12 L9 17", "M4 12 H14 a5 5 0 0 1 0 10 H12"],
  redo: ["M15 7 L20 12 L15 17", "M20 12 H10 a5 5 0 0 0 0 10 H12"],
  plus: ["M11 4 a7 7 0 1 0 0.01 0", "M16.5 16.5 L21 21", "M8 11 H14", "M11 8 V14"],
  minus: ["M11 4 a7 7 0 1 0 0.01 0", "M16.5 16.5 L21 21", "M8 11 H14"],
  fit: ["M4 9 V4 H9", "M15 4 H20 V9", "M20 15 V20 H15", "M9 20 H4 V15"],
  turn: ["M20 12 a8 8 0 1 1 -2.5 -5.8", "M20 3 V8 H15"],
  bright: ["M12 8 a4 4 0 1 0 0.01 0", "M12 2 V4", "M12 20 V22", "M2 12 H4", "M20 12 H22", "M5 5 L6.4 6.4", "M17.6 17.6 L19 19", "M5 19 L6.4 17.6", "M17.6 6.4 L19 5"],
  bin: ["M5 7 H19", "M9 7 V4 H15 V7", "M7 7 L8 20 H16 L17 7"],
  help: ["M9 9 a3 3 0 1 1 4.2 2.7 c-1 .5 -1.2 1 -1.2 2.3", "M12 18 V18.2"],
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", fill: "none", stroke: "currentColor",
    "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round" },
  PATHS[name].map((d) => s("path", { d })));
}
