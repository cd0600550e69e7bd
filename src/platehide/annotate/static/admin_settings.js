// Instructions, price, overlap, rules with a dry run; invite links.

import { api } from "./api.js";
import { fill, h, prose, when } from "./dom.js";
import { examples } from "./examples.js";

const FIELDS = [
  ["several_plates", "Ask for every plate of a photo", "Not only the main one"],
  ["price", "Pay for one answer", ""], ["currency", "Currency", ""],
  ["overlap_min", "Answers a photo at first", ""], ["overlap_max", "Answers a photo at most", "One more at a time until two agree"],
  ["posterior", "Certainty that settles a photo", "0.5 to 1"],
  ["control_share_new", "Control tasks for new workers", "Share, 0 to 0.9"], ["control_share", "Control tasks for trusted workers", "Share, 0 to 0.9"],
  ["training_tasks", "Practice tasks before the first paid one", ""],
  ["lease_seconds", "Seconds that a task is held for a worker", ""], ["min_seconds", "Faster than this is too fast (seconds)", "Measured on the server"],
  ["captcha_every", "Tasks between two captchas", "0 = never"], ["income_cap", "Most that a worker can earn a day", "0 = no limit"],
  ["proposal_share", "Show the model's suggestion on this share of first answers", "0 = never; never on control tasks"],
  ["order", "Order of the photos", ""], ["split_val", "Share of validation photos in the export", ""], ["split_test", "Share of test photos in the export", ""],
];

export async function settingsTab(project, body) {
  const inputs = {};
  const message = h("p", { role: "status" });
  const control = (name, value) => {
    if (typeof value === "boolean") {
      const box = h("input", { type: "checkbox", id: `set-${name}` });
      box.checked = value;
      return box;
    }
    if (name === "order") {
      const pick = h("select", { id: "set-order" }, [["uncertain", "most uncertain first"], ["random", "random"]].map(([v, t]) => h("option", { value: v }, t)));
      pick.value = value;
      return pick;
    }
    const field = h("input", { id: `set-${name}`, type: typeof value === "number" ? "number" : "text", step: "any" });
    field.value = value;
    return field;
  };
  const name = h("input", { id: "set-name", maxlength: 120 });
  name.value = project.name;
  const text = h("textarea", { id: "set-instructions", rows: 14 });
  text.value = project.instructions;
  const preview = h("div", { class: "card" });
  const show = () => fill(preview, prose(text.value), examples());
  text.addEventListener("input", show);
  show();
  const rules = h("textarea", { id: "set-rules", rows: 16, spellcheck: "false", placeholder: "Empty: the recommended rules" });
  rules.value = project.settings.rules;
  const dry = h("div");

  function collect() {
    const settings = { rules: rules.value };
    for (const [key] of FIELDS) {
      const field = inputs[key];
      const old = project.settings[key];
      settings[key] = typeof old === "boolean" ? field.checked : typeof old === "number" ? Number(field.value) : field.value;
    }
    return settings;
  }

  async function save(event) {
    event.preventDefault();
    try {
      const fresh = await api("PATCH", `/api/projects/${project.id}`, { name: name.value, instructions: text.value, settings: collect() });
      Object.assign(project, fresh);
      message.className = "good-text";
      message.textContent = "Saved.";
    } catch (error) {
      message.className = "bad-text";
      message.textContent = error.message;
    }
  }

  async function dryRun() {
    try {
      const runs = await api("POST", `/api/projects/${project.id}/rules/dry-run`, { rules: rules.value });
      fill(dry, h("table", {}, h("tbody", {}, runs.map((r) => h("tr", {}, h("td", {}, h("strong", {}, r.rule)),
        h("td", {}, r.sentence, r.decisions.length ? h("details", { class: "small" }, h("summary", {}, "whom"), r.decisions.map((d) => h("div", {}, `${d.name}: ${d.reason}`))) : null))))));
    } catch (error) {
      fill(dry, h("p", { class: "bad-text" }, error.message));
    }
  }

  fill(body, h("form", { onsubmit: save },
    h("div", { class: "card" }, h("h2", {}, "Name and instructions"), h("label", { for: "set-name" }, "Name"), name,
      h("label", { for: "set-instructions" }, "Instructions (# heading, - list, **bold**)"), text, h("h3", {}, "As annotators see them"), preview),
    h("div", { class: "card" }, h("h2", {}, "How"), h("div", { class: "settings" }, FIELDS.map(([key, title, hint]) => {
      inputs[key] = control(key, project.settings[key]);
      return h("div", {}, h("label", { for: `set-${key}` }, title), inputs[key], hint ? h("div", { class: "soft small" }, hint) : null);
    }))),
    h("div", { class: "card" }, h("h2", {}, "Quality rules"),
      h("p", { class: "soft" }, "A rule is a collector, conditions and an action, in YAML (or Toloka's JSON). Try them on what has happened so far before you save."),
      rules, h("div", { class: "row" }, h("button", { type: "button", onclick: dryRun }, "Dry run"),
        h("button", { type: "button", onclick: async () => {
          rules.value = JSON.stringify(await api("GET", `/api/projects/${project.id}/rules/default`), null, 2);
        } }, "Show the recommended ones")), dry),
    h("div", { class: "row" }, h("button", { class: "primary" }, "Save"), message)));
}

export async function invitesTab(project, body, again) {
  const [open, workers] = await Promise.all([
    api("GET", `/api/projects/${project.id}/invites`), api("GET", `/api/projects/${project.id}/workers`)]);
  const role = h("select", { id: "invite-role" }, ["worker", "expert", "requester"].map((r) => h("option", { value: r }, r)));
  const uses = h("input", { id: "invite-uses", type: "number", min: 1, max: 10000, value: 10 });
  const days = h("input", { id: "invite-days", type: "number", min: 0.01, max: 90, step: "any", value: 7 });
  const made = h("div", { role: "status" });
  const make = async (payload) => {
    try {
      const invite = await api("POST", `/api/projects/${project.id}/invites`, payload);
      const link = `${location.origin}/join#${invite.invite}`;
      fill(made, h("p", { class: "notice good" }, h("span", { class: "mono", id: "invite-link" }, link), " ",
        h("button", { type: "button", onclick: () => navigator.clipboard?.writeText(link) }, "Copy")),
      h("p", { class: "soft small" }, "The link is shown only now. Whoever opens it comes in; send it to the right people."));
    } catch (error) {
      fill(made, h("p", { class: "bad-text" }, error.message));
    }
  };
  const people = workers.filter((w) => !w.imported);
  const person = h("select", { id: "invite-person" }, people.map((w) => h("option", { value: w.worker }, w.name)));
  fill(body,
    h("form", { class: "card", onsubmit: (e) => { e.preventDefault(); make({ role: role.value, uses: role.value === "requester" ? 1 : Number(uses.value), days: Number(days.value) }); } },
      h("h2", {}, "Invite"), h("div", { class: "settings" },
        h("div", {}, h("label", { for: "invite-role" }, "As"), role),
        h("div", {}, h("label", { for: "invite-uses" }, "People who may use it"), uses),
        h("div", {}, h("label", { for: "invite-days" }, "Days until it expires"), days)),
      h("p", {}, h("button", { class: "primary" }, "Make a link")), made),
    people.length ? h("form", { class: "card", onsubmit: (e) => { e.preventDefault(); make({ role: "worker", user: person.value, days: 1 }); } },
      h("h2", {}, "Somebody lost their session"), h("label", { for: "invite-person" }, "Who"), person, h("p", {}, h("button", {}, "Make a link that signs them in again"))) : null,
    open.length ? h("div", { class: "card scroll" }, h("h2", {}, "Open invites"), h("table", {}, h("tbody", {}, open.map((i) => h("tr", {},
      h("td", {}, i.role), h("td", { class: "nowrap" }, `${i.uses} of ${i.max_uses} used`), h("td", { class: "nowrap" }, `until ${when(i.expires_at)}`),
      h("td", {}, h("button", { type: "button", class: "danger", onclick: async () => { await api("DELETE", `/api/invites/${i.id}`); again(); } }, "Withdraw"))))))) : null);
}
