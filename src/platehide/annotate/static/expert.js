// The experts' queue: photos on which the crowd did not agree.

import { api, whoAmI } from "./api.js";
import { $, fill, h } from "./dom.js";
import { drawPlates } from "./drawing.js";
import { decide, sideBySide } from "./reviewing.js";

const HASH = () => location.hash.slice(1);

async function queue(project) {
  const found = await api("GET", `/api/projects/${project.id}/review?status=escalated&limit=12`);
  const settle = async (photo, kind, plates) => {
    try {
      await decide(project.id, photo.photo, kind, plates);
      document.querySelector(`[data-photo="${photo.photo}"]`)?.remove();
      if (!document.querySelector("[data-photo]")) setTimeout(() => queue(project), 600);
    } catch (error) {
      alertUser(error.message);
    }
  };
  fill($("main"), h("h1", {}, project.name, " ", h("span", { class: "soft" }, `· ${found.total} waiting`)),
    h("p", { class: "soft" }, "The crowd did not agree on these. Take an answer that is right, draw the corners yourself, or say that there is no plate."),
    h("p", { id: "alert", role: "alert", class: "bad-text" }),
    found.photos.length ? h("div", { class: "review-list" }, found.photos.map((photo) => sideBySide(photo, {
      project: project.id,
      decide: settle,
      draw: async (p) => {
        const plates = await drawPlates(project.id, p, project.several_plates);
        if (plates) settle(p, "expert", plates);
      },
    }))) : h("p", { class: "notice good" }, "Nothing waits for you here."),
    h("p", {}, h("a", { href: "/review" }, "Other projects")));
}

function alertUser(text) {
  $("alert").textContent = text;
  scrollTo(0, 0);
}

async function start() {
  const me = await whoAmI();
  $("who").textContent = me.name;
  $("leave").addEventListener("click", async () => {
    await api("POST", "/api/leave");
    location.replace("/join");
  });
  if (me.role === "worker") {
    location.replace("/work");
    return;
  }
  const projects = await api("GET", "/api/expert/projects");
  const chosen = projects.find((p) => p.id === HASH());
  if (chosen) {
    await queue(chosen);
    return;
  }
  fill($("main"), h("h1", {}, "Photos that wait for an expert"),
    projects.length ? projects.map((p) => h("p", {}, h("a", {
      class: "button", href: `#${p.id}`, onclick: () => setTimeout(() => location.reload()) }, p.name, h("span", { class: "pill" }, `${p.waiting} waiting`))))
      : h("p", {}, "You have not been invited to a project."));
}

start().catch((error) => fill($("main"), h("p", { class: "notice bad" }, error.message)));
