// State and queue of the page. Photos go to the service one request each, two at a time.

import { Stage } from "./editor.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 2;
const MAX_TRIES = 8;
const STAGES = { decode: "Read", detect: "Find plates", cover: "Cover", encode: "Write", verify: "Proof" };
const LABELS = {
  waiting: "Waiting",
  working: "Working",
  hidden: "Covered",
  none: "No plate found",
  unsure: "Not sure",
  error: "Failed",
};
const REASONS = {
  unsure: "Not sure that every plate can be covered, so the photo is kept back.",
  empty: "The file is empty.",
  not_an_image: "This is not a photo.",
  truncated: "The photo is cut off: part of the file is missing.",
  unsupported: "This kind of photo cannot be handled.",
  corrupt: "The photo is damaged.",
  too_large: "The photo has too many pixels.",
  body_too_large: "The file is too large.",
  unauthorized: "An API key is needed.",
  bad_cover: "The logo cannot be used",
};

const NOTHING_FOUND = "No plate was found. If there is one, mark it.";

const items = [];
let current = null;
let logo = null; // {file, name}
let counter = 0;
let running = 0;
let config = { keys_needed: false };

function say(text) {
  $("say").textContent = text;
}

const stage = new Stage({ onEdit: () => renderEditBar(), say });

// ---- settings

function options() {
  const query = new URLSearchParams();
  const cover = document.querySelector("input[name=cover]:checked");
  if (cover && cover.value !== "::logo") query.set("cover", cover.value);
  query.set("style", $("style").value);
  query.set("variant", $("variant").value);
  const text = $("text").value.trim();
  if (text && $("style").value !== "blur") query.set("text", text);
  query.set("image_base64", "true");
  return query;
}

function usesLogo() {
  const cover = document.querySelector("input[name=cover]:checked");
  return Boolean(logo && cover && cover.value === "::logo");
}

function coverCard(value, name, preview, checked) {
  const label = document.createElement("label");
  label.className = "cover";
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "cover";
  input.value = value;
  input.checked = checked;
  const picture = document.createElement("span");
  picture.className = "cover-picture";
  if (preview) {
    const image = document.createElement("img");
    image.src = preview;
    image.alt = "";
    picture.append(image);
  } else {
    picture.textContent = "+";
    picture.setAttribute("aria-hidden", "true");
  }
  const text = document.createElement("span");
  text.textContent = name;
  label.append(input, picture, text);
  return label;
}

async function loadCovers() {
  const answer = await fetch("v1/covers");
  const { covers, default: chosen } = await answer.json();
  for (const { id, preview } of covers) {
    const words = id.replace(/[-_]/g, " ");
    const name = id === "default" ? "Neutral" : words[0].toUpperCase() + words.slice(1);
    $("covers").append(coverCard(id, name, preview, id === chosen));
  }
  const own = coverCard("::logo", "Your logo (PNG, SVG)", null, false);
  own.id = "own-logo";
  own.querySelector("input").addEventListener("click", () => {
    if (!logo) $("logo").click();
  });
  $("covers").append(own);
  const change = document.createElement("button");
  change.type = "button";
  change.id = "change-logo";
  change.className = "button quiet";
  change.textContent = "Change the logo";
  change.hidden = true;
  change.addEventListener("click", () => $("logo").click());
  $("covers").after(change);
}

function takeLogo(file) {
  if (!file) {
    if (!logo) document.querySelector("input[name=cover]").checked = true;
    return;
  }
  if (logo) URL.revokeObjectURL(logo.url);
  logo = { file, url: URL.createObjectURL(file) };
  const picture = $("own-logo").querySelector(".cover-picture");
  const image = document.createElement("img");
  image.src = logo.url;
  image.alt = "";
  picture.replaceChildren(image);
  $("own-logo").querySelector("input").checked = true;
  $("change-logo").hidden = false;
  redoAll();
}

// ---- talking to the service

function key() {
  return sessionStorage.getItem("platehide-key") || "";
}

function pause(seconds) {
  return new Promise((done) => setTimeout(done, seconds * 1000));
}

async function ask(item) {
  const query = options();
  const path = item.manual ? "v1/cover" : "v1/hide";
  let body = item.file;
  if (usesLogo() || item.manual) {
    body = new FormData();
    body.append("photo", item.file, item.name);
    if (usesLogo()) body.append("cover", logo.file, logo.file.name);
    if (item.manual) body.append("quads", JSON.stringify(item.quads));
  }
  const headers = { Accept: "application/json" };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(`${path}?${query}`, { method: "POST", body, headers });
    const again = answer.status === 503 || answer.status === 429;
    if (!again || tries === MAX_TRIES) return answer;
    await pause(Number(answer.headers.get("Retry-After") || 1) * (0.5 + Math.random()));
  }
}

function blobOf(base64, type) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new Blob([bytes], { type });
}

async function work(item) {
  const turn = item.turn;
  item.status = "working";
  renderItem(item);
  let outcome;
  try {
    const begin = performance.now();
    const answer = await ask(item);
    const data = await answer.json();
    outcome = answer.ok
      ? { status: data.status, row: data, blob: blobOf(data.image_base64, data.media_type) }
      : { status: data.code === "unsure" ? "unsure" : "error", row: data, message: explain(data) };
    outcome.roundTrip = performance.now() - begin;
    if (answer.status === 401) askForKey();
  } catch {
    outcome = { status: "error", row: null, message: "The service cannot be reached." };
  }
  if (turn !== item.turn || !items.includes(item)) return; // asked again meanwhile, or removed
  if (item.afterUrl) URL.revokeObjectURL(item.afterUrl);
  item.afterUrl = outcome.blob ? URL.createObjectURL(outcome.blob) : null;
  Object.assign(item, { message: "", blob: null, roundTrip: 0 }, outcome);
  if (item.row && item.row.image_base64) delete item.row.image_base64;
  if (item.row) item.row.image = item.name;
  if (!item.manual && item.row && item.row.plates) item.quads = item.row.plates.map((p) => p.quad.map((c) => [...c]));
  item.saved = structuredClone(item.quads);
  say(`${item.name}: ${headline(item)}`);
  renderItem(item);
}

function explain(problem) {
  const known = REASONS[problem.code];
  if (!known) return problem.detail || "The service could not do it.";
  return problem.code === "bad_cover" ? `${known}: ${problem.detail}` : known;
}

function headline(item) {
  if (item.status === "hidden") {
    const n = item.quads.length;
    return n === 1 ? "1 plate covered" : `${n} plates covered`;
  }
  return LABELS[item.status];
}

function pump() {
  while (running < AT_ONCE) {
    const next = current && current.status === "waiting" ? current : items.find((i) => i.status === "waiting");
    if (!next) break;
    running += 1;
    work(next).finally(() => {
      running -= 1;
      pump();
    });
  }
  renderProgress();
}

function redo(item) {
  item.turn += 1;
  item.status = "waiting";
  renderItem(item);
}

function redoAll() {
  items.forEach(redo);
  pump();
}

// ---- photos

function addFiles(files) {
  const photos = [...files].filter((f) => f.type.startsWith("image/") || /\.(heic|heif|avif|tiff?)$/i.test(f.name));
  const refused = files.length - photos.length;
  for (const file of photos) {
    counter += 1;
    const item = {
      id: counter, file, name: file.name || `pasted-${counter}.png`, url: URL.createObjectURL(file),
      afterUrl: null, blob: null, status: "waiting", row: null, quads: [], saved: [], manual: false,
      message: "", turn: 0, roundTrip: 0,
    };
    items.push(item);
    $("photos").append(thumbnail(item));
  }
  if (refused) say(`${refused} ${refused === 1 ? "file is" : "files are"} not photos and left out.`);
  if (!photos.length) return;
  if (!current) select(items[items.length - photos.length]);
  document.body.classList.add("has-photos");
  $("work").hidden = false;
  pump();
  stage.layout();
}

function thumbnail(item) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  const image = document.createElement("img");
  image.alt = "";
  const dot = document.createElement("span");
  dot.className = "dot";
  const name = document.createElement("span");
  name.className = "thumb-name";
  const state = document.createElement("span");
  state.className = "thumb-state";
  button.append(image, dot, name, state);
  button.addEventListener("click", () => select(item));
  entry.append(button);
  item.entry = entry;
  item.button = button;
  return entry;
}

function select(item) {
  current = item;
  setMode(false);
  stage.show(item);
  for (const other of items) {
    if (other.button) other.button.setAttribute("aria-current", String(other === item));
  }
  item.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("stage").scrollIntoView({ block: "nearest" });
  renderItem(item);
}

function drop(item) {
  const index = items.indexOf(item);
  items.splice(index, 1);
  item.turn += 1;
  item.entry.remove();
  URL.revokeObjectURL(item.url);
  if (item.afterUrl) URL.revokeObjectURL(item.afterUrl);
  if (items.length) {
    select(items[Math.min(index, items.length - 1)]);
    $("photo-name").focus();
  } else {
    current = null;
    $("work").hidden = true;
    document.body.classList.remove("has-photos");
    $("files").focus();
  }
  say(`${item.name} removed`);
  renderProgress();
}

// ---- drawing

function renderItem(item) {
  if (!item.button) return;
  const [image, dot, name, state] = item.button.children;
  const picture = item.afterUrl || item.url;
  if (image.getAttribute("src") !== picture) image.src = picture;
  name.textContent = item.name;
  state.textContent = headline(item);
  dot.className = `dot ${item.status}`;
  renderProgress();
  if (item !== current) return;
  stage.show(item);
  $("photo-name").textContent = item.name;
  $("badge").textContent = headline(item);
  $("badge").className = `badge ${item.status}`;
  const busy = item.status === "waiting" || item.status === "working";
  $("stage").classList.toggle("busy", busy);
  $("over").textContent = item.status === "working" ? "Working…" : "Waiting…";
  $("over").hidden = !busy || Boolean(item.afterUrl);
  const offer = item.status === "unsure" || item.status === "none";
  $("alert").hidden = busy || stage.editing || (!item.message && item.status !== "none");
  $("alert").className = `alert ${item.status}`;
  $("alert-text").textContent = item.status === "none" ? NOTHING_FOUND : item.message;
  $("mark").hidden = !offer;
  renderResult(item, busy);
  renderEditBar();
}

function renderResult(item, busy) {
  const row = item.row;
  let text = busy ? "Working on it…" : item.message;
  if (item.status === "hidden") {
    const by = item.manual ? " where you marked" : "";
    const shares = item.manual ? [] : row.plates.map((p) => `${Math.round(p.confidence * 100)}\u00a0%`);
    text = `${headline(item)}${by}${shares.length ? `, confidence ${shares.join(", ")}` : ""}.`;
    if (row.edit === "lossless") text += " Outside the cover nothing changed.";
  } else if (item.status === "none") {
    text = item.manual ? "No plate is marked: only hidden data was removed." : "No plate was found. Hidden data was removed from the file.";
  }
  $("summary").textContent = text;
  const list = $("timings");
  const entries = row && row.ms ? Object.entries(STAGES).filter(([k]) => row.ms[k] > 0) : [];
  const whole = row && row.ms ? row.ms.total : 0;
  list.replaceChildren(
    ...entries.flatMap(([name, label]) => timing(label, row.ms[name], whole)),
    ...(whole ? timing("Service", whole, whole, "total") : []),
    ...(whole ? timing("Round trip", item.roundTrip, 0, "plain") : []),
  );
  $("row").textContent = row ? JSON.stringify(row, null, 1) : "";
  const ready = Boolean(item.blob);
  $("download").toggleAttribute("hidden", !ready);
  if (ready) {
    $("download").href = item.afterUrl;
    $("download").download = outputName(item);
  }
}

function timing(label, ms, whole, kind = "") {
  const term = document.createElement("dt");
  term.textContent = label;
  const value = document.createElement("dd");
  value.className = kind;
  const bar = document.createElement("i");
  bar.style.width = whole ? `${Math.max(2, (100 * ms) / whole)}%` : "0";
  const number = document.createElement("span");
  number.textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  value.append(bar, number);
  return [term, value];
}

function renderProgress() {
  const done = items.filter((i) => !["waiting", "working"].includes(i.status));
  const failed = done.filter((i) => !i.blob).length;
  const left = items.length - done.length;
  const ready = done.length - failed;
  $("progress").textContent = left
    ? `${done.length} of ${items.length} done`
    : `${ready} ready${failed ? `, ${failed} kept back` : ""}`;
  $("download-all").disabled = !ready;
}

function changed(item) {
  return JSON.stringify(item.quads) !== JSON.stringify(item.saved);
}

function renderEditBar() {
  if (!current) return;
  const edited = changed(current);
  $("apply").disabled = !edited;
  $("undo").disabled = !edited;
  $("remove-plate").disabled = current.quads.length === 0;
}

function setMode(editing) {
  $("mode-compare").setAttribute("aria-pressed", String(!editing));
  $("mode-edit").setAttribute("aria-pressed", String(editing));
  $("edit-bar").hidden = !editing;
  document.body.classList.toggle("editing", editing);
  if (editing) $("alert").hidden = true;
  stage.setEditing(editing);
  if (current) renderItem(current);
}

function outputName(item) {
  if (!item.blob) return item.name;
  const suffix = { "image/jpeg": /\.jpe?g$/i }[item.blob.type];
  return suffix && !suffix.test(item.name) ? `${item.name}.jpg` : item.name;
}

async function downloadAll() {
  const used = new Set();
  const files = [];
  for (const item of items.filter((i) => i.blob)) {
    let name = outputName(item);
    for (let n = 2; used.has(name); n += 1) name = outputName(item).replace(/(\.[^.]*)?$/, `-${n}$1`);
    used.add(name);
    files.push({ name, blob: item.blob });
  }
  const rows = items.filter((i) => i.row).map((i) => JSON.stringify(i.row)).join("\n");
  files.push({ name: "report.jsonl", blob: new Blob([`${rows}\n`]) });
  const url = URL.createObjectURL(await zip(files));
  const link = document.createElement("a");
  link.href = url;
  link.download = "platehide.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  say(`${files.length - 1} photos in one archive`);
}

function askForKey() {
  $("key-form").hidden = false;
  $("key").focus();
}

// ---- events

$("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
$("logo").addEventListener("change", (event) => {
  takeLogo(event.target.files[0]);
  event.target.value = "";
});
$("logo").addEventListener("cancel", () => takeLogo(null));
$("covers").addEventListener("change", (event) => {
  if (event.target.value !== "::logo" || logo) redoAll();
});
for (const id of ["style", "variant", "text"]) {
  $(id).addEventListener("change", () => {
    $("blur-warning").hidden = $("style").value !== "blur";
    $("text").disabled = $("style").value === "blur";
    redoAll();
  });
}
$("mode-compare").addEventListener("click", () => setMode(false));
$("mode-edit").addEventListener("click", () => setMode(true));
$("mark").addEventListener("click", () => {
  setMode(true);
  stage.add();
});
$("add-plate").addEventListener("click", () => stage.add());
$("remove-plate").addEventListener("click", () => stage.remove());
$("undo").addEventListener("click", () => {
  current.quads = structuredClone(current.saved);
  stage.layout();
  renderEditBar();
});
$("apply").addEventListener("click", () => {
  current.manual = true;
  setMode(false);
  redo(current);
  pump();
});
$("remove-photo").addEventListener("click", () => drop(current));
$("clear").addEventListener("click", () => [...items].forEach(drop));
$("download-all").addEventListener("click", downloadAll);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("platehide-key", $("key").value.trim());
  $("key-form").hidden = true;
  items.filter((i) => i.status === "error").forEach(redo);
  pump();
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData ? event.clipboardData.files : [];
  if (files.length) addFiles(files);
});
let depth = 0;
document.addEventListener("dragenter", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  depth += 1;
  $("veil").hidden = false;
});
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) $("veil").hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("veil").hidden = true;
  addFiles(event.dataTransfer.files);
});

async function start() {
  try {
    config = await (await fetch("v1/models")).json();
    $("model").textContent = `model ${config.current}`;
    if (config.keys_needed && !key()) $("key-form").hidden = false;
    await loadCovers();
  } catch {
    $("model").textContent = "the service cannot be reached";
  }
}
start();
