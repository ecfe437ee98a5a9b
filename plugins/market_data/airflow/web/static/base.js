// Helpers of all pages. Text from the server is only ever set as text.

export const ROOT = location.pathname.split("/market-data/")[0];

/** Make an element: properties starting with "on" are listeners, others attributes; children are nodes or texts. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== false));
  return made;
}

/** Replace the content of an element; false and null are left out. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child != null && child !== false));
}

export function status(text, isProblem = false) {
  const place = document.getElementById("status");
  place.textContent = text;
  place.className = isProblem ? "warn" : "soft";
}

async function responseOf(found) {
  const body = await found.json().catch(() => ({}));
  if (found.ok) return body;
  const detail = typeof body.detail === "string" ? body.detail : body.detail && JSON.stringify(body.detail);
  throw new Error((body.problems || [detail || `${found.status} ${found.statusText}`]).join("; "));
}

/** GET one of our own addresses, relative to the pages. */
export async function read(path, given = {}) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value != null && value !== ""));
  return responseOf(await fetch(`api/${path}?${query}`, { headers: { Accept: "application/json" } }));
}

const JSON_HEADERS = { "Content-Type": "application/json", Accept: "application/json" };

/** POST to one of our own addresses. */
export async function act(path, body) {
  return responseOf(await fetch(`api/${path}`, { method: "POST", headers: JSON_HEADERS, body: JSON.stringify(body) }));
}

/** Call Airflow's own REST API: Airflow checks the user's permissions. */
export async function airflow(method, path, body) {
  const given = body === undefined ? {} : { body: JSON.stringify(body) };
  return responseOf(await fetch(`${ROOT}/api/v2${path}`, { method, headers: JSON_HEADERS, ...given }));
}

/** Trigger a DAG; unpause those that the user agreed to unpause. */
export async function trigger(dagId, conf, unpause = []) {
  for (const id of unpause) await airflow("PATCH", `/dags/${encodeURIComponent(id)}?update_mask=is_paused`, { is_paused: false });
  return airflow("POST", `/dags/${encodeURIComponent(dagId)}/dagRuns`, { logical_date: null, conf });
}

/** Report a run until it has ended; throw its note if it failed. */
export async function follow(run, report) {
  const path = `/dags/${encodeURIComponent(run.dag_id)}/dagRuns/${encodeURIComponent(run.dag_run_id)}`;
  for (;;) {
    const { state, note } = await airflow("GET", path);
    report(`${run.dag_id} ${run.dag_run_id}: ${state}`);
    if (state === "success") return;
    if (state === "failed") throw new Error(`run ${run.dag_run_id} of ${run.dag_id} failed: ${note || "see its log"}`);
    await new Promise((done) => setTimeout(done, 2000));
  }
}

/** A table with caption and column heads; cells are nodes or texts. */
export function table(caption, heads, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell == null ? "" : cell)))))));
}

/** A number with its noun: "1 call", "2 batches". */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : noun.endsWith("ch") ? "es" : "s"}`;
}

/** The feeds that the user may see. */
export async function feedsToSee(path = "feeds") {
  const found = await read(path);
  if (!found.length) throw new Error(`You may see the runs of no feed${path === "feeds" ? "" : " of bars"}: ask an administrator of Airflow for the permission to read the runs of its DAG.`);
  return found;
}

/** A link to another page of ours; parameters without a value are left out. */
export function pageLink(name, given, text) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  return el("a", { href: `${name}?${query}` }, text);
}

const DAY = 86400000;

/** The date some days before or after an ISO date. */
export function shifted(date, days) {
  return new Date(Date.parse(date) + days * DAY).toISOString().slice(0, 10);
}

export function moment(text) {
  return text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : "";
}

/** The parts of the address that say what is shown. */
export const address = {
  get: (name) => new URLSearchParams(location.search).get(name),
  set(values) {
    const found = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(values)) value == null || value === "" ? found.delete(name) : found.set(name, value);
    history.replaceState(null, "", `${location.pathname}?${found}`);
    for (const link of document.querySelectorAll("nav a")) link.search = new URLSearchParams({ feed: found.get("feed") || "" });
  },
};

export function select(label, options, chosen, changed) {
  const box = el("select", { onchange: () => changed(box.value) }, options.map((one) => {
    const [value, text] = Array.isArray(one) ? one : [one, one];
    return el("option", { value, selected: value === chosen }, text);
  }));
  return el("label", {}, label, box);
}

/** A box to agree to unpause DAGs; without any, it is agreed. */
export function unpauseBox(paused) {
  const box = el("input", { type: "checkbox" });
  const are = paused.length > 1 ? "are paused, and their runs wait. They stay unpaused." : "is paused, and its runs wait. It stays unpaused.";
  const node = paused.length ? el("p", {}, el("label", {}, box, ` Unpause: ${paused.join(" and ")} ${are}`)) : "";
  return { node, box, agreed: () => !paused.length || box.checked, paused };
}
