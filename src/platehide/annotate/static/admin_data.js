// Photos in, answers under review, labels out.

import { api } from "./api.js";
import { fill, h } from "./dom.js";
import { drawPlates } from "./drawing.js";
import { decide, sideBySide } from "./reviewing.js";

function note(text, kind = "bad") {
  const place = document.getElementById("note");
  if (place) fill(place, text ? h("p", { class: `notice ${kind}`, role: "alert" }, text) : null);
}

async function follow(project, job, show) {
  for (;;) {
    const now = await api("GET", `/api/projects/${project.id}/jobs/${job.id}`);
    if (now.state !== "running") return now;
    show();
    await new Promise((r) => setTimeout(r, 1000));
  }
}

export async function photosTab(project, body, again) {
  const [tasks, controls, training] = await Promise.all(["task", "control", "training"].map((purpose) =>
    api("GET", `/api/projects/${project.id}/photos?purpose=${purpose}&limit=60`)));
  const progress = h("p", { role: "status", class: "soft" });
  const files = h("input", { type: "file", id: "files", accept: "image/*", multiple: true });
  const source = h("input", { id: "source", placeholder: "/data/photos or s3://bucket/cars" });
  const purpose = h("select", { id: "purpose" }, [["task", "to annotate"], ["control", "control tasks (annotations.jsonl beside them)"], ["training", "training (annotations.jsonl beside them)"]]
    .map(([v, t]) => h("option", { value: v }, t)));

  const labels = h("input", { type: "file", id: "labels", accept: ".tsv,.json,.jsonl,.xml,.zip" });
  const format = h("select", { id: "format" }, [["toloka", "Toloka TSV"], ["label-studio", "Label Studio JSON"], ["cvat", "CVAT XML 1.1"], ["coco", "COCO keypoints"], ["yolo-pose", "YOLO pose (ZIP)"], ["judgements", "Raw answers, JSONL"], ["labels", "Labels, JSONL"]]
    .map(([v, t]) => h("option", { value: v }, t)));
  const use = h("select", { id: "use" }, [["", "what the format holds"], ["answers", "workers' answers"], ["labels", "final labels"], ["proposals", "suggestions to correct"], ["control", "control tasks"], ["training", "training"]]
    .map(([v, t]) => h("option", { value: v }, t)));

  async function upload() {
    const refused = [];
    let added = 0;
    const chosen = [...files.files];
    for (const [i, file] of chosen.entries()) {
      progress.textContent = `Uploading ${i + 1} of ${chosen.length}…`;
      try {
        const reply = await api("POST", `/api/projects/${project.id}/photos?name=${encodeURIComponent(file.name)}`, file);
        added += reply.added ? 1 : 0;
      } catch (error) {
        refused.push(error.message);
      }
    }
    await again(); // drawn anew first, or the words would go with the old page
    note(`${added} added, ${chosen.length - added - refused.length} known already. ${refused.slice(0, 5).join(" · ")}`, refused.length ? "bad" : "good");
  }

  async function run(path, payload, words) {
    try {
      const job = await api("POST", `/api/projects/${project.id}/${path}`, payload);
      const done = await follow(project, job, () => { progress.textContent = words; });
      const r = done.result;
      const text = done.state === "failed" ? r.error
        : path !== "rank" ? `${r.added} added, ${r.known} known already, ${r.refused.length} refused. ${r.refused.slice(0, 5).map((x) => x.reason).join(" · ")}`
          : `${r.ranked} photos ordered by ${r.model}, ${r.proposed} with a suggestion.`;
      await again();
      note(text, done.state === "failed" ? "bad" : "good");
    } catch (error) {
      progress.textContent = "";
      note(error.message);
    }
  }

  fill(body,
    h("div", { class: "plots" },
      h("div", { class: "card" }, h("h2", {}, "Upload"), h("label", { for: "files" }, "Photos from this computer"), files,
        h("p", {}, h("button", { type: "button", class: "primary", onclick: upload }, "Upload"))),
      h("form", { class: "card", onsubmit: (e) => { e.preventDefault(); run("import", { source: source.value, purpose: purpose.value }, "Importing…"); } },
        h("h2", {}, "Import"), h("label", { for: "source" }, "A folder or URL that the server can read"), source,
        h("label", { for: "purpose" }, "What for"), purpose, h("p", {}, h("button", {}, "Import"))),
      h("form", { class: "card", onsubmit: (e) => {
        e.preventDefault();
        const [file] = labels.files;
        if (!file) return note("Choose a file first.");
        const query = new URLSearchParams({ format: format.value, name: file.name, ...(use.value ? { use: use.value } : {}) });
        run(`annotations?${query}`, file, "Reading the file…");
      } },
        h("h2", {}, "Answers and labels"), h("p", { class: "soft" }, "Another tool's file for photos that are here already; they are found by name."),
        h("label", { for: "labels" }, "File"), labels, h("label", { for: "format" }, "Format"), format,
        h("label", { for: "use" }, "Take it as"), use, h("p", {}, h("button", {}, "Take over"))),
      h("div", { class: "card" }, h("h2", {}, "Order"), h("p", {}, "Let the detector look first: photos that it is unsure about come first, and its finds can be shown as suggestions."),
        h("button", { type: "button", onclick: () => run("rank", {}, "The detector is looking…") }, "Order by uncertainty"),
        h("h2", {}, "Control photos"), h("p", {}, "Turn the surest settled photos into control tasks."),
        h("button", { type: "button", onclick: async () => {
          try {
            const r = await api("POST", `/api/projects/${project.id}/controls`, { share: 0.1 });
            await again();
            note(`${r.turned} photos became control tasks.`, "good");
          } catch (error) { note(error.message); }
        } }, "Turn a tenth"))),
    progress,
    [["Photos to annotate", tasks], ["Control photos", controls], ["Training photos", training]].map(([title, found]) =>
      h("details", { class: "card", open: title.startsWith("Photos") }, h("summary", {}, h("strong", {}, title), ` ${found.total}`),
        h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, found.photos.map((p) => h("tr", {},
          h("td", {}, p.name), h("td", { class: "soft" }, `${p.width}×${p.height}`),
          h("td", {}, p.status ? h("span", { class: `pill ${p.status}` }, p.status) : `${p.truth.plates.length} plates`),
          h("td", { class: "num" }, p.judgements === null ? "" : `${p.judgements} answers`),
          h("td", { class: "num soft" }, p.priority ? `doubt ${p.priority.toFixed(2)}` : "")))))),
        found.total > found.photos.length ? h("p", { class: "soft small" }, `The newest ${found.photos.length} are shown.`) : null)));
}

export async function reviewTab(project, body) {
  let status = "";
  let offset = 0;
  const pick = h("select", { id: "review-status" }, [["", "all photos, greatest disagreement first"], ["escalated", "waiting for an expert"], ["open", "still open"], ["agreed", "settled"]]
    .map(([v, t]) => h("option", { value: v }, t)));
  const list = h("div", { class: "review-list" });
  const more = h("button", { type: "button", onclick: () => { offset += 12; load(); } }, "More");
  const count = h("span", { class: "soft" });

  async function act(photo, doing) {
    try {
      await doing();
      const card = list.querySelector(`[data-photo="${photo.photo}"]`);
      setTimeout(async () => {
        const found = await api("GET", `/api/projects/${project.id}/review?limit=100&offset=0`);
        const fresh = found.photos.find((p) => p.photo === photo.photo);
        if (card && fresh) card.replaceWith(render(fresh));
      }, 500);
    } catch (error) {
      note(error.message);
    }
  }

  function render(photo) {
    return sideBySide(photo, {
      project: project.id,
      reject: (p, a) => act(p, () => api("POST", `/api/projects/${project.id}/answers/${a.id}/reject`, { reason: "rejected in review" })),
      decide: (p, kind, plates) => act(p, () => decide(project.id, p.photo, kind, plates)),
      draw: async (p) => {
        const plates = await drawPlates(project.id, p, project.settings.several_plates);
        if (plates) act(p, () => decide(project.id, p.photo, "expert", plates));
      },
    });
  }

  async function load() {
    const found = await api("GET", `/api/projects/${project.id}/review?status=${status}&limit=12&offset=${offset}`);
    if (!offset) list.replaceChildren();
    list.append(...found.photos.map(render));
    more.hidden = offset + 12 >= found.total;
    count.textContent = `${found.total} photos`;
    if (!found.total) fill(list, h("p", { class: "notice" }, "No photo with answers here."));
  }

  pick.addEventListener("change", () => { status = pick.value; offset = 0; load(); });
  fill(body, h("div", { class: "row" }, h("label", { for: "review-status", class: "visually-hidden" }, "Which photos"), pick, count), h("p"), list, more);
  await load();
}

const FORMATS = [
  ["layout", "Training set (ZIP): images/ and annotations.jsonl with splits, as train and evaluate read it"],
  ["labels", "Labels, JSONL"], ["judgements", "Raw answers, JSONL, as aggregate reads it"], ["workers", "Workers, JSONL"],
  ["toloka", "Toloka TSV"], ["label-studio", "Label Studio JSON"], ["cvat", "CVAT XML 1.1"], ["coco", "COCO keypoints"], ["yolo-pose", "YOLO pose (ZIP)"],
];

export async function exportTab(project, body) {
  fill(body, h("div", { class: "card" }, h("h2", {}, "Download"),
    FORMATS.map(([format, text]) => h("p", {}, h("button", { type: "button", onclick: async () => {
      // Asked for first, so that an error is words on the page and not a broken download.
      const url = `/api/projects/${project.id}/export?format=${format}`;
      const reply = await fetch(url, { credentials: "same-origin" });
      if (!reply.ok) {
        const problem = await reply.json().catch(() => ({}));
        note(problem.error || `The server said ${reply.status}.`);
        return;
      }
      const name = /filename="?([^";]+)/.exec(reply.headers.get("content-disposition") || "");
      const link = h("a", { href: URL.createObjectURL(await reply.blob()), download: name ? name[1] : format });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      note("");
    } }, format), " ", text))));
}
