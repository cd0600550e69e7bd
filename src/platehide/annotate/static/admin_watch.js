// Watching a project: figures, plots, workers.

import { api } from "./api.js";
import { duration, fill, h, money, when } from "./dom.js";
import { bars, line, scatter } from "./plots.js";

const tile = (value, text) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, text));

export async function overviewTab(project, body) {
  const o = await api("GET", `/api/projects/${project.id}/overview`);
  const p = o.photos;
  const start = new Date(o.series.start * 1000);
  const ends = [start.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }), "now"];
  let sum = 0;
  const settled = o.series.settled.map((n) => (sum += n));
  const perStep = o.series.step < 90 ? "a minute" : `in ${duration(o.series.step)}`;
  fill(body,
    o.warnings.map((w) => h("p", { class: "notice warn" }, w)),
    h("progress", { max: Math.max(1, p.total), value: p.agreed, "aria-label": "settled photos" }),
    h("div", { class: "tiles" },
      tile(`${p.agreed} / ${p.total}`, "photos settled"),
      tile(p.escalated, "wait for an expert"),
      tile(o.rate_per_hour ? o.rate_per_hour.toLocaleString("en") : "–", "answers an hour"),
      tile(duration(o.eta_seconds), "until done"),
      tile(money(o.spend, o.currency), `spent; about ${money(o.forecast_spend, o.currency)} in the end`),
      tile(o.cost_per_photo === null ? "–" : money(o.cost_per_photo, o.currency), "a settled photo"),
      tile(o.judgements_per_photo ?? "–", "answers a photo, control tasks included"),
      tile(`${o.workers.active} / ${o.workers.banned}`, "workers active / banned")),
    h("div", { class: "plots" },
      line("Settled photos", `${p.agreed} of ${p.total}; the dashed line is all of them.`, settled.length ? settled : [0], ends, p.total),
      bars("Answers", `Answers ${perStep}.`, o.series.judgements.length ? o.series.judgements : [0],
        (o.series.judgements.length ? o.series.judgements : [0]).map((_, i) => new Date((o.series.start + i * o.series.step) * 1000).toLocaleTimeString()), { ends }),
      bars("Agreement", "Settled photos by the share of answers that agree with the label.", o.agreement,
        o.agreement.map((_, i) => (i === 9 ? "1" : `.${i}`)), { classes: o.agreement.map((_, i) => (i < 5 ? "bad" : i < 8 ? "warn" : "good")) }),
      bars("Photos", "By state.", [p.agreed, p.open, p.escalated], ["settled", "open", "expert"], { classes: ["good", "", "warn"] })));
}

export async function workersTab(project, body, again) {
  const workers = await api("GET", `/api/projects/${project.id}/workers`);
  const currency = project.settings.currency;
  const active = workers.filter((w) => w.judgements);
  const act = async (worker, verb, payload) => {
    try {
      await api("POST", `/api/projects/${project.id}/workers/${worker.worker}/${verb}`, payload);
      setTimeout(again, 500);
    } catch (error) {
      fill(document.getElementById("note"), h("p", { class: "notice bad", role: "alert" }, error.message));
    }
  };
  const state = (w) => {
    if (w.banned && w.banned_until) return h("span", { class: "pill paused" }, `until ${when(w.banned_until)}`);
    if (w.banned) return h("span", { class: "pill banned" }, "banned");
    return h("span", { class: `pill ${w.verdict}` }, w.verdict);
  };
  fill(body,
    active.length ? h("div", { class: "plots" },
      scatter("Skill and speed", "Each dot is a worker: seconds a task across, skill up; red is banned.",
        active.filter((w) => w.skill !== null).map((w) => ({ x: w.seconds || 0, y: w.skill, kind: w.banned ? "bad" : "good", title: `${w.name}: skill ${w.skill ?? "–"}, ${w.seconds} s` })),
        { label: "seconds" }, { max: 1 }),
      scatter("Control tasks", "Answers across, share of control tasks right up.",
        active.filter((w) => w.golden_total).map((w) => ({ x: w.judgements, y: w.golden_right / w.golden_total, kind: w.banned ? "bad" : "good", title: `${w.name}: ${w.golden_right} of ${w.golden_total}` })),
        { label: "answers" }, { max: 1 })) : null,
    workers.length ? h("div", { class: "card scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Worker", "State", "Answers", "Skill", "Control", "Agrees", "Seconds", "Earned", "Last seen", ""].map((t, i) => h("th", { class: [2, 3, 4, 5, 6, 7].includes(i) ? "num" : "" }, t)))),
      h("tbody", {}, workers.map((w) => h("tr", {},
        h("td", {}, w.name, w.reason ? h("div", { class: "soft small" }, w.reason) : null,
          w.decisions.length ? h("details", { class: "small" }, h("summary", {}, `${w.decisions.length} decision${w.decisions.length > 1 ? "s" : ""}`),
            w.decisions.map((d) => h("div", {}, `${when(d.at)}: ${d.action} – ${d.rule}. ${d.reason}`))) : null),
        h("td", {}, state(w)),
        h("td", { class: "num" }, w.judgements), h("td", { class: "num" }, w.skill ?? "–"),
        h("td", { class: "num", title: `true share between ${w.golden_interval[0]} and ${w.golden_interval[1]}` }, w.golden_total ? `${w.golden_right}/${w.golden_total}` : "–"),
        h("td", { class: "num" }, w.compared ? `${Math.round((100 * w.agreed) / w.compared)} %` : "–"),
        h("td", { class: "num" }, w.seconds ?? "–"), h("td", { class: "num" }, money(w.earned, currency)),
        h("td", {}, when(w.last_seen)),
        h("td", {}, w.banned
          ? h("button", { type: "button", onclick: () => act(w, "unban") }, "Lift ban")
          : h("button", { type: "button", class: "danger", onclick: () => act(w, "ban", { reason: "banned by the requester" }) }, "Ban"))))))) 
      : h("p", { class: "notice" }, "Nobody has joined yet. Make an invite link under Invites."));
}
