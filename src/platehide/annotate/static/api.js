// Talking to the server: JSON in and out, the CSRF token of the session on unsafe requests.

let csrf = "";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function api(method, path, body, options = {}) {
  const headers = {};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  let payload;
  if (body instanceof Blob) payload = body;
  else if (body !== undefined && body !== null) {
    headers["Content-Type"] = "application/json";
    payload = JSON.stringify(body);
  }
  let reply;
  try {
    reply = await fetch(path, { method, headers, body: payload, credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, "offline", "The server cannot be reached.");
  }
  let answer = null;
  try {
    answer = await reply.json();
  } catch { /* not JSON: an error page of a proxy */ }
  if (!reply.ok) {
    const detail = answer && (answer.error || describe(answer.detail));
    throw new ApiError(reply.status, (answer && answer.code) || "", detail || `The server said ${reply.status}.`);
  }
  return answer;
}

function describe(detail) {
  if (!Array.isArray(detail)) return detail;
  return detail.map((d) => `${(d.loc || []).slice(1).join(".")}: ${d.msg}`).join("; ");
}

// Who is signed in; sends people who are not to the sign-in page.
export async function whoAmI() {
  try {
    const me = await api("GET", "/api/me");
    csrf = me.csrf;
    return me;
  } catch (error) {
    if (error.status === 401) {
      location.replace("/join");
      return new Promise(() => {});
    }
    throw error;
  }
}

export function setCsrf(token) {
  csrf = token;
}

export function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
