// The requester's pages: #/ lists projects, #/new creates one, #/ID/TAB is a project.

import { api, whoAmI } from "./api.js";
import { $, fill, h } from "./dom.js";
import { exportTab, photosTab, reviewTab } from "./admin_data.js";
import { invitesTab, settingsTab } from "./admin_settings.js";
import { overviewTab, workersTab } from "./admin_watch.js";

const TABS = [
  ["overview", "Overview", overviewTab],
  ["photos", "Photos", photosTab],
  ["workers", "Workers", workersTab],
  ["review", "Review", reviewTab],
  ["people", "Invites", invitesTab],
  ["settings", "Settings", settingsTab],
  ["export", "Export", exportTab],
];
let timer = 0;
let wanted = 0; // a page that was asked for later wins, whichever comes first

async function list(current) {
  const projects = await api("GET", "/api/projects");
  if (!current()) return;
  document.title = "Projects";
  fill($("main"), h("div", { class: "row spread" }, h("h1", {}, "Projects"), h("a", { class: "button primary", href: "#/new" }, "New project")),
    projects.length ? null : h("p", { class: "notice" }, "No project yet. Create one, add photos, start it, and send annotators a link."),
    projects.map((p) => {
      const total = Object.values(p.photos).reduce((t, n) => t + n, 0);
      const agreed = p.photos.agreed || 0;
      return h("div", { class: "card" },
        h("div", { class: "row spread" }, h("a", { href: `#/${p.slug}/overview` }, h("strong", {}, p.name)), h("span", { class: `pill ${p.status}` }, p.status)),
        h("progress", { max: Math.max(1, total), value: agreed, "aria-label": "settled photos" }),
        h("span", { class: "soft small" }, `${agreed} of ${total} photos settled`, p.photos.escalated ? `, ${p.photos.escalated} wait for an expert` : ""));
    }));
}

function create() {
  document.title = "New project";
  const name = h("input", { id: "new-name", required: true, maxlength: 120 });
  const message = h("p", { role: "alert", class: "bad-text" });
  fill($("main"), h("form", {
    class: "card narrow",
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        const made = await api("POST", "/api/projects", { name: name.value });
        location.hash = `#/${made.slug}/photos`;
      } catch (error) {
        message.textContent = error.message;
      }
    },
  }, h("h1", {}, "New project"), h("label", { for: "new-name" }, "Name"), name,
  h("p", { class: "soft small" }, "Everything else has sensible defaults and can be changed under Settings."), message,
  h("div", { class: "row" }, h("button", { class: "primary" }, "Create"), h("a", { class: "button", href: "#/" }, "Cancel"))));
  name.focus();
}

async function project(slug, tab, current) {
  const row = await api("GET", `/api/projects/${encodeURIComponent(slug)}`);
  if (!current()) return;
  document.title = row.name;
  const body = h("div", { id: "tab" }, h("p", { class: "soft" }, "Loading…"));
  const again = () => route();
  const change = async (status) => {
    try {
      await api("PATCH", `/api/projects/${row.id}`, { status });
      again();
    } catch (error) {
      fill($("note"), h("p", { class: "notice bad", role: "alert" }, error.message));
    }
  };
  const actions = {
    draft: h("button", { type: "button", class: "primary", onclick: () => change("active") }, "Start"),
    active: h("button", { type: "button", onclick: () => change("paused") }, "Pause"),
    paused: h("button", { type: "button", class: "primary", onclick: () => change("active") }, "Go on"),
    closed: h("button", { type: "button", onclick: () => change("active") }, "Open again"),
  };
  fill($("main"), h("div", { class: "row spread" },
    h("h1", {}, row.name, " ", h("span", { class: `pill ${row.status}` }, row.status)), actions[row.status]),
  h("div", { id: "note" }),
  h("nav", { class: "tabs", "aria-label": "Project" }, TABS.map(([key, title]) =>
    h("a", { href: `#/${row.slug}/${key}`, "aria-current": key === tab ? "page" : null }, title))), body);
  const found = TABS.find(([key]) => key === tab) || TABS[0];
  const live = async () => {
    await found[2](row, body, again);
    if (!current()) return;
    clearTimeout(timer);
    if (found[0] === "overview") timer = setTimeout(() => { if (!document.hidden && body.isConnected) live().catch(() => {}); }, 5000);
  };
  await live();
}

async function route() {
  clearTimeout(timer);
  const mine = (wanted += 1);
  const current = () => mine === wanted;
  const [slug, tab] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    if (!slug) await list(current);
    else if (slug === "new") create();
    else await project(decodeURIComponent(slug), tab || "overview", current);
  } catch (error) {
    if (current()) fill($("main"), h("p", { class: "notice bad" }, error.message), h("p", {}, h("a", { href: "#/" }, "All projects")));
  }
}

async function start() {
  const me = await whoAmI();
  if (me.role !== "requester") {
    location.replace(me.role === "worker" ? "/work" : "/review");
    return;
  }
  $("who").textContent = me.name;
  $("leave").addEventListener("click", async () => {
    await api("POST", "/api/leave");
    location.replace("/join");
  });
  addEventListener("hashchange", route);
  await route();
}

start().catch((error) => fill($("main"), h("p", { class: "notice bad" }, error.message)));
