import { api, setCsrf } from "./api.js";
import { $ } from "./dom.js";

const HOME = { requester: "/projects", expert: "/review", worker: "/work" };
const invite = location.hash.slice(1);

async function start() {
  // Somebody who is signed in joins another project as themselves; their CSRF token goes along.
  let me = null;
  try {
    me = await api("GET", "/api/me");
    setCsrf(me.csrf);
  } catch { /* nobody yet */ }
  if (!invite) {
    if (me) location.replace(HOME[me.role]);
    else $("nothing").hidden = false;
    return;
  }
  if (me) $("name").value = me.name;
  $("form").hidden = false;
  $("name").focus();
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("go").disabled = true;
  try {
    const me = await api("POST", "/api/join", { invite, name: $("name").value });
    location.replace(HOME[me.role]);
  } catch (error) {
    $("message").textContent = error.message;
    $("go").disabled = false;
  }
});

start();
