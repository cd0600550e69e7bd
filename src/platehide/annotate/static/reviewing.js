// Answers of one photo side by side: used by requesters and experts.

import { api } from "./api.js";
import { around, COLOURS, crop } from "./crops.js";
import { h } from "./dom.js";

export function photoUrl(project, photo) {
  return `/api/projects/${project}/photos/${photo}/file`;
}

function words(answer) {
  if (answer.skip) return "unreadable";
  if (!answer.plates.length) return "no plate";
  return answer.plates.length === 1 ? "" : `${answer.plates.length} plates`;
}

// options: project, reject(answer), decide(photo, kind), draw(photo)
export function sideBySide(photo, options) {
  const url = photoUrl(options.project, photo.photo);
  const label = photo.label ? photo.label.plates.map((p) => p.quad) : [];
  const drawn = photo.answers.map((a) => (a.answer.plates || []));
  const box = around([...label, ...drawn.flat()], photo.width, photo.height);
  const all = photo.answers.map((a, i) => ({ quads: a.counts ? drawn[i] : [], colour: COLOURS[i % COLOURS.length] }));
  return h("section", { class: "card", "data-photo": photo.photo },
    h("div", { class: "row spread" },
      h("div", {}, h("strong", {}, photo.name), " ", h("span", { class: `pill ${photo.status}` }, photo.status),
        photo.final ? h("span", { class: "pill agreed" }, "decided by a person") : null),
      h("span", { class: "soft small" }, `agreement ${(photo.agreement * 100).toFixed(0)} % · certainty ${(photo.posterior * 100).toFixed(1)} %`)),
    h("div", { class: "side" },
      h("figure", {}, crop(url, box, [...all, { quads: label, colour: "#ffffff" }]),
        h("figcaption", {}, h("span", {}, label.length ? "All answers; the label is white" : photo.status === "agreed" ? "Label: no plate" : "All answers"))),
      photo.answers.map((a, i) => h("figure", { class: a.counts ? "" : "dropped" },
        crop(url, box, [{ quads: drawn[i], colour: COLOURS[i % COLOURS.length] }]),
        h("figcaption", {},
          h("span", {}, h("strong", {}, a.name), ` ${words(a.answer)} `, h("span", { class: "soft" }, `${Math.round(a.seconds)} s${a.proposed ? " · suggested" : ""}${a.counts ? "" : " · dropped"}`)),
          options.reject && a.counts ? h("button", { type: "button", class: "danger", onclick: () => options.reject(photo, a) }, "Reject") : null,
          options.draw && !a.answer.skip ? h("button", { type: "button", onclick: () => options.decide(photo, "expert", a.answer.plates) }, "Take this") : null)))),
    h("div", { class: "row" },
      options.draw ? h("button", { type: "button", class: "primary", onclick: () => options.draw(photo) }, "Draw it") : null,
      photo.final ? null : h("button", { type: "button", disabled: photo.label === null, onclick: () => options.decide(photo, "accept") }, "Accept the label"),
      h("button", { type: "button", onclick: () => options.decide(photo, "expert", []) }, "No plate"),
      h("button", { type: "button", onclick: () => options.decide(photo, "reopen") }, "Ask another worker")));
}

export function decide(project, photo, kind, plates) {
  return api("POST", `/api/projects/${project}/photos/${photo}/decision`,
    kind === "expert" ? { kind, plates } : { kind });
}
