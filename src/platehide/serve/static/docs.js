// Shows openapi.json of this very service; nothing comes from elsewhere.

const $ = (id) => document.getElementById(id);

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function table(head, rows) {
  const holder = element("div", undefined, "scroll");
  const grid = element("table");
  const line = element("tr");
  line.append(...head.map((h) => element("th", h)));
  grid.append(line);
  for (const row of rows) {
    const tr = element("tr");
    tr.append(...row.map((cell) => element("td", cell)));
    grid.append(tr);
  }
  holder.append(grid);
  return holder;
}

function kind(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.anyOf) return schema.anyOf.filter((s) => s.type !== "null").map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  const bounds = [];
  if (schema.minimum !== undefined) bounds.push(`≥ ${schema.minimum}`);
  if (schema.maximum !== undefined) bounds.push(`≤ ${schema.maximum}`);
  if (schema.maxLength !== undefined) bounds.push(`at most ${schema.maxLength} characters`);
  return [schema.format === "binary" ? "bytes" : schema.type || "any", ...bounds].join(", ");
}

function route(path, verb, operation) {
  const box = element("details", undefined, "route");
  const head = element("summary");
  head.append(element("span", verb.toUpperCase(), "verb"), element("code", path), element("span", operation.summary || "", "what"));
  box.append(head);
  if (operation.description) box.append(element("p", operation.description.replaceAll("``", "")));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    box.append(element("h3", "Parameters"));
    box.append(table(["name", "in", "value", "meaning"], parameters.map((p) => [p.name, p.in, kind(p.schema), p.description || (p.schema && p.schema.description) || ""])));
  }
  if (operation.requestBody) {
    box.append(element("h3", "Body"));
    const rows = Object.entries(operation.requestBody.content).map(([type, { schema }]) => [
      type,
      schema.properties ? Object.entries(schema.properties).map(([n, s]) => `${n}: ${kind(s)}`).join("; ") : kind(schema),
    ]);
    box.append(table(["content type", "content"], rows));
  }
  box.append(element("h3", "Answers"));
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    status,
    Object.keys(answer.content || {}).join(", "),
    [answer.description, ...Object.keys(answer.headers || {})].filter(Boolean).join("; "),
  ]);
  box.append(table(["status", "content type", "meaning"], answers));
  return box;
}

async function start() {
  const base = location.href.replace(/docs\/?([?#].*)?$/, "");
  $("example").textContent = `curl --data-binary @car.jpg ${base}v1/hide -o car-hidden.jpg\ncurl -H 'Accept: application/json' --data-binary @car.jpg ${base}v1/detect`;
  const document_ = await (await fetch("openapi.json")).json();
  $("version").textContent = `version ${document_.info.version}`;
  const groups = new Map();
  for (const [path, verbs] of Object.entries(document_.paths)) {
    for (const [verb, operation] of Object.entries(verbs)) {
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(route(path, verb, operation));
    }
  }
  for (const [tag, routes] of groups) $("routes").append(element("h2", tag), ...routes);
}
start();
