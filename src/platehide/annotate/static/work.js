// The annotators' page: one task on the stage, the next one loaded behind it.

import { api, ApiError, newClientId, whoAmI } from "./api.js";
import { $, fill, h, money, prose } from "./dom.js";
import { Editor } from "./editor.js";
import { examples } from "./examples.js";
import { icon } from "./icons.js";

const state = { project: null, desk: null, task: null, sending: false, photos: new Map(), shownHelp: false };
const TAP = matchMedia("(pointer: coarse)").matches ? "Tap" : "Click";
const canvas = $("canvas");
const editor = new Editor(canvas, { changed: update, say, closed: cornersDone });

// Settings of this browser -----------------------------------------------------------------

function remembered(name) {
  try { return localStorage.getItem(`platehide.${name}`); } catch { return null; }
}

function remember(name, value) {
  try { localStorage.setItem(`platehide.${name}`, value); } catch { /* private mode */ }
}

// Words ------------------------------------------------------------------------------------

function say(text) {
  $("hint").textContent = text || guide();
}

function guide() {
  if (!state.task) return "";
  const placed = editor.draft.length;
  const many = state.project.several_plates;
  if (placed) return `Corner ${placed + 1} of 4`;
  if (!editor.plates.length) return `${TAP} the four corners of the plate, in any order`;
  if (editor.problem()) return editor.problem();
  if (editor.proposed && !editor.past.length) return "A suggestion: correct its corners, then send";
  return many ? "Add another plate, or send" : "Check the corners, then send";
}

// Photos -----------------------------------------------------------------------------------

function photo(task) {
  if (!state.photos.has(task.id)) {
    const image = new Image();
    image.src = `/api/work/tasks/${task.id}/photo`;
    const ready = image.decode().then(() => image).catch((error) => {
      state.photos.delete(task.id);
      throw error;
    });
    ready.catch(() => {});
    state.photos.set(task.id, ready);
  }
  return state.photos.get(task.id);
}

function forgetPhotos(tasks) {
  const kept = new Set(tasks.map((t) => t.id));
  for (const id of [...state.photos.keys()]) if (!kept.has(id)) state.photos.delete(id);
}

// The desk ---------------------------------------------------------------------------------

async function refresh() {
  try {
    take(await api("POST", `/api/work/projects/${state.project.id}/desk`));
  } catch (error) {
    failed(error);
  }
}

function take(desk) {
  state.desk = desk;
  forgetPhotos(desk.tasks);
  figures(desk.progress);
  if (!desk.tasks.length) {
    rest(desk);
    return;
  }
  // Keep what is on the stage if it is still ours (a training task to correct).
  const next = desk.tasks[0];
  show(next);
  desk.tasks.slice(1).forEach((t) => photo(t));
}

function figures(p) {
  const today = p.done_today !== p.done ? ` (${p.done_today} today)` : "";
  const pay = p.price ? ` · ${money(p.earned, p.currency)}` : "";
  fill($("figures"), h("span", {}, `${p.done} done`, h("span", { class: "long" }, today), pay));
  $("figures").title = p.price ? `${money(p.price, p.currency)} for a photo` : "";
}

async function show(task) {
  state.task = task;
  cover(null);
  $("tools").hidden = false;
  editor.clear();
  editor.draw();
  $("hint").textContent = "Loading the photo…";
  buttons();
  try {
    const image = await photo(task);
    if (state.task !== task) return;
    editor.load(image, task.width, task.height, task.proposal || []);
    canvas.focus({ preventScroll: true });
    if (task.training) say("Practice: you get feedback, no pay. Click the four corners of the plate.");
  } catch {
    if (state.task !== task) return;
    stop("The photo could not be loaded.", h("button", { type: "button", class: "primary", onclick: refresh }, "Try again"));
  }
}

function update() {
  say("");
  buttons();
}

function buttons() {
  const ready = Boolean(editor.image) && !state.sending;
  $("send").disabled = !ready || !editor.complete || Boolean(editor.problem());
  $("none").disabled = !ready;
  $("skip").disabled = !ready;
  for (const [name, test] of [["undo", editor.past.length], ["redo", editor.future.length],
    ["bin", editor.plates.length + editor.draft.length]]) $(`tool-${name}`).disabled = !ready || !test;
  $("tool-bright").setAttribute("aria-pressed", String(editor.bright));
}

// The fourth corner is placed: look closely at a plate that is small on the screen.
function cornersDone() {
  if (remembered("closer") !== "0" && editor.fitted && editor.plateShare() < 0.35) editor.focus();
  if (remembered("autosend") === "1" && !state.project.several_plates && !state.task.training) {
    setTimeout(() => { if (editor.complete && !editor.problem()) send(); }, 350);
  }
}

// Answers ----------------------------------------------------------------------------------

function send() {
  if (editor.complete && !editor.problem()) submit({ plates: editor.answer() });
  else say(editor.problem() || "Nothing is marked. Is there no plate? Press “No plate”.");
}

function none() {
  if (editor.plates.length || editor.draft.length) {
    say("Corners are marked. Remove them first, or send them.");
    return;
  }
  submit({ plates: [] });
}

function skip() {
  submit({ skip: true, reason: "unreadable" });
}

async function submit(answer) {
  if (state.sending || !state.task || !editor.image) return;
  const task = state.task;
  state.sending = true;
  buttons();
  const body = { client_id: newClientId(), answer };
  for (let attempt = 0; ; attempt += 1) {
    try {
      const reply = await api("POST", `/api/work/tasks/${task.id}/answer`, body);
      state.sending = false;
      if (reply.feedback) feedback(task, answer, reply);
      else take(reply.desk);
      return;
    } catch (error) {
      const passing = error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
      if (passing && attempt < 8) {
        // The same client_id again: if the first one arrived after all, nothing is counted twice.
        $("hint").textContent = "Not saved yet; trying again…";
        await new Promise((r) => setTimeout(r, Math.min(8000, 500 * 2 ** attempt)));
        continue;
      }
      state.sending = false;
      buttons();
      if (error.code === "bad_answer") say(error.message);
      else if (error.code === "captcha_due") refresh();
      else if (["lease_lost", "already_answered", "not_found"].includes(error.code)) {
        await refresh();
        say(`${error.message}. Here is the next one.`);
      } else failed(error);
      return;
    }
  }
}

function feedback(task, answer, reply) {
  const f = reply.feedback;
  if (f.right || f.over) {
    stop(
      f.right ? "Right!" : "Not quite, but let us go on.",
      ...f.hints.map((t) => h("p", {}, t)),
      h("p", {}, f.right ? "That is how it should be." : "Have another look at the instructions when in doubt."),
      h("button", { type: "button", class: "primary", id: "go-on", onclick: () => take(reply.desk) }, "Go on ", h("kbd", {}, "Enter")),
    );
    $("go-on").focus();
    return;
  }
  editor.flags = f.corners;
  buttons();
  editor.draw();
  say(f.hints.join(" "));
}

// Instead of a task ------------------------------------------------------------------------

function cover(node) {
  $("cover").hidden = node === null;
  if (node) fill($("cover"), node);
}

function stop(title, ...content) {
  cover(h("div", { class: "card" }, h("h1", {}, title), content));
}

function rest(desk) {
  state.task = null;
  editor.clear();
  editor.draw();
  $("tools").hidden = true;
  $("hint").textContent = "";
  if (desk.state === "captcha") {
    captcha(desk.captcha.id);
    return;
  }
  const again = h("button", { type: "button", class: "primary", onclick: refresh }, "Look again");
  stop(desk.state === "waiting" ? "Nothing to do right now" : desk.state === "cap" ? "That is all for today" : "Stopped",
    h("p", {}, desk.message), desk.state === "waiting" || desk.state === "paused" ? again : null,
    h("p", {}, h("a", { href: "/work" }, "Other projects")));
  if (desk.state === "waiting") setTimeout(() => { if (!state.task && state.desk === desk) refresh(); }, 20000);
}

function failed(error) {
  state.task = null;
  stop("That did not work", h("p", {}, error.message),
    h("button", { type: "button", class: "primary", onclick: refresh }, "Try again"));
}

function captcha(id) {
  const input = h("input", { id: "captcha-text", autocomplete: "off", autocapitalize: "characters", spellcheck: "false", required: true });
  const message = h("p", { role: "status" });
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        const reply = await api("POST", `/api/work/captcha/${id}`, { text: input.value });
        take(reply.desk);
        if (!reply.right) {
          const note = document.querySelector("#cover [role=status]");
          if (note) note.textContent = "That was not it; here is a new one.";
        }
      } catch (error) {
        if (error.status === 404) refresh();
        else message.textContent = error.message;
      }
    },
  },
  h("p", {}, "Type the five characters of the picture, ", h("strong", {}, "or"),
    " listen to three groups of beeps and type how many beeps each group has (three digits). Either one is enough."),
  h("img", { class: "captcha-picture", src: `/api/work/captcha/${id}/picture`, alt: "Five characters. If you cannot see them, use the sound instead." }),
  h("p", {}, h("audio", { controls: true, preload: "none", src: `/api/work/captcha/${id}/sound`, "aria-label": "Three groups of beeps" })),
  h("label", { for: "captcha-text" }, "What you see or hear"), input, message,
  h("p", {}, h("button", { class: "primary" }, "Check")));
  stop("Still there?", form);
  input.focus();
}

// Help -------------------------------------------------------------------------------------

const KEYS = [
  ["Click / tap", "Place a corner. On a phone: press and hold for the loupe, then let go."],
  ["Drag", "A corner, the whole plate, or the photo (on an empty place)"],
  ["Wheel, pinch, + −", "Zoom; 0 shows the whole photo, F goes to the plate and back"],
  ["Arrows", "Move the chosen corner by one pixel (Shift ten, Alt a quarter); without a chosen corner: move a crosshair"],
  ["Space", "Place a corner at the crosshair"],
  ["1 2 3 4, 5", "Choose a corner, the whole plate; P the next plate; Esc nothing"],
  ["Z, Y", "Undo, redo (also with Ctrl)"],
  ["Delete", "Remove the last corner, or the plate"],
  ["R, Shift R", "Turn the photo"],
  ["B, H", "Brighten the photo; hide the lines"],
  ["N, U, Enter", "No plate, unreadable, send"],
];

function help() {
  const p = state.project;
  const closer = h("input", { type: "checkbox", id: "closer", onchange: (e) => remember("closer", e.target.checked ? "1" : "0") });
  closer.checked = remembered("closer") !== "0";
  const auto = h("input", { type: "checkbox", id: "autosend", onchange: (e) => remember("autosend", e.target.checked ? "1" : "0") });
  auto.checked = remembered("autosend") === "1";
  fill($("help"),
    h("div", { class: "row spread" }, h("h1", { id: "help-title" }, p.name),
      h("button", { type: "button", onclick: () => $("help").close(), autofocus: true }, "Close ", h("kbd", {}, "Esc"))),
    p.price ? h("p", {}, `You get ${money(p.price, p.currency)} for a photo.`) : null,
    prose(p.instructions), examples(),
    h("h2", {}, "Mouse, fingers, keys"),
    h("div", { class: "keys" }, KEYS.map(([k, t]) => [h("strong", {}, k), h("span", {}, t)])),
    h("p", {}, h("label", { class: "inline" }, closer, "Go closer when a plate has its four corners (F goes back)")),
    p.several_plates ? null : h("p", {}, h("label", { class: "inline" }, auto, "Send right after the fourth corner")),
    h("p", {}, h("a", { href: "/work" }, "Other projects")));
  $("help").showModal();
}

// Start ------------------------------------------------------------------------------------

function toolbar() {
  const tools = [
    ["undo", "Undo (Z)", () => editor.undo()],
    ["redo", "Redo (Y)", () => editor.redo()],
    ["bin", "Remove (Delete)", () => editor.removeSelected()],
    ["minus", "Zoom out (−)", () => editor.zoom(1 / 1.4)],
    ["plus", "Zoom in (+)", () => editor.zoom(1.4)],
    ["fit", "Whole photo / plate (F)", () => editor.focus()],
    ["turn", "Turn the photo (R)", () => editor.rotate(1)],
    ["bright", "Brighten (B)", () => { editor.toggleBright(); buttons(); }],
  ];
  fill($("icons"), tools.map(([name, title, go]) =>
    h("button", { type: "button", id: `tool-${name}`, title, "aria-label": title, onclick: () => { go(); canvas.focus(); } }, icon(name))));
  $("none").addEventListener("click", none);
  $("skip").addEventListener("click", skip);
  $("send").addEventListener("click", send);
  $("show-help").addEventListener("click", help);
  document.addEventListener("keydown", (event) => {
    if ($("help").open || event.target.closest("input, textarea, select, audio, dialog")) return;
    if (event.key === "?") help();
    else if (!state.task || !$("cover").hidden) return;
    else if (event.target.closest("button, a") && (event.key === "Enter" || event.key === " ")) return;
    else if (event.key === "Enter") send();
    else if ((event.key === "n" || event.key === "N") && !event.ctrlKey && !event.metaKey) none();
    else if ((event.key === "u" || event.key === "U") && !event.ctrlKey && !event.metaKey) skip();
    else if (!editor.key(event)) return;
    event.preventDefault();
    buttons();
  });
}

async function start() {
  toolbar();
  const me = await whoAmI();
  if (me.role !== "worker") {
    location.replace(me.role === "requester" ? "/projects" : "/review");
    return;
  }
  const projects = await api("GET", "/api/work/projects");
  const wanted = location.hash.slice(1);
  const open = projects.find((p) => p.id === wanted) || (projects.length === 1 ? projects[0] : null);
  if (!open) {
    stop(projects.length ? "Your projects" : "No project yet",
      projects.length ? null : h("p", {}, "You have not been invited to a project that is open."),
      projects.map((p) => h("p", {}, h("a", { class: "button", href: `#${p.id}`, onclick: () => setTimeout(() => location.reload()) },
        p.name, p.price ? h("span", { class: "soft small" }, `${money(p.price, p.currency)} a photo`) : null))));
    return;
  }
  state.project = open;
  editor.options.several = open.several_plates;
  $("project-name").textContent = open.name;
  document.title = `${open.name} – annotate`;
  await refresh();
  if (remembered(`read.${open.id}`) !== "1") {
    remember(`read.${open.id}`, "1");
    help();
  }
}

start().catch(failed);
