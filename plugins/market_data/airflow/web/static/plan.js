// Page Plan: what a run would take, live while its params are filled in; then its start.

import { ROOT, act, address, el, fill, read, select, status, trigger } from "./base.js";
import { Fields, listed } from "./plan_fields.js";

const page = document.getElementById("page");
const WAIT = 300; // milliseconds after the last key
const LONGEST = 6000; // characters of an address that every server takes
const OWN = "p."; // before the name of a param in the address: a provider may have an option `feed`
let form, fields, panel, hint, timer, turn = 0;

function problem(error) { status(error.message, true); }

function given() {
  return new Map([...new URLSearchParams(location.search)].filter(([name]) => name.startsWith(OWN)).map(([name, text]) => [name.slice(OWN.length), text]));
}

function remember() {
  const found = new URLSearchParams({ feed: form.feed });
  for (const [name, text] of fields.texts()) found.set(OWN + name, text);
  const long = found.toString().length > LONGEST;
  if (long) found.delete(`${OWN}symbols`);
  hint.textContent = long ? "The address of this page does not have the symbols: they are too many. A tickers file can be linked." : "";
  history.replaceState(null, "", `${location.pathname}?${found}`);
}

async function load() {
  clearTimeout(timer);
  turn += 1;
  status("Loading ...");
  const listedFeeds = read("feeds");
  const feed = address.get("feed") || (await listedFeeds)[0];
  if (!feed) throw new Error("There is no feed whose runs you may see.");
  const [feeds, found] = await Promise.all([listedFeeds, read("plan/form", { feed })]);
  form = found;
  address.set({ feed });
  fields = new Fields(form.sections, given(), changed);
  hint = el("p", { class: "soft", id: "hint" });
  panel = el("section", { class: "cell", "aria-label": "Plan" }, el("p", { class: "soft" }, "Planning ..."));
  fill(page,
    el("div", { class: "controls" }, select("Feed", feeds, form.feed, again)),
    el("form", { class: "plan", onsubmit: (event) => event.preventDefault() }, fields.node, el("div", { class: "answer" }, panel, hint)));
  await ask();
}

function again(feed) {
  history.replaceState(null, "", `${location.pathname}?${new URLSearchParams({ feed })}`);
  load().catch(problem);
}

function changed() {
  remember();
  status("Planning ...");
  for (const button of panel.querySelectorAll("button")) button.disabled = true; // its figures are those of other params
  clearTimeout(timer);
  turn += 1; // an answer to what was there before is dropped
  timer = setTimeout(() => ask().catch(problem), WAIT);
}

/** Ask what the run would take; the route "plan/price" asks the provider too. Only the answer to the latest question is shown. */
async function ask(route = "plan/ask") {
  const own = ++turn, params = fields.params();
  let found;
  try {
    found = await act(route, { feed: form.feed, params });
  } catch (error) {
    if (own !== turn) return;
    fields.report([]);
    fill(panel, el("p", { class: "warn" }, error.message));
    status(error.message, true);
    return;
  }
  if (own !== turn) return;
  const general = fields.report(found.problems);
  if (found.problems.length) {
    fill(panel, el("h2", {}, "This cannot be planned"), el("ul", { class: "plain warn" }, found.problems.map((one) => el("li", {}, one.text))));
    status(general.length ? general.join("; ") : "Some fields are wrong: see beside them.", true);
    return;
  }
  show(found);
}

function show(found) {
  const start = el("button", { class: "main", type: "button", disabled: !form.may_start, onclick: () => confirm(found) }, "Start");
  fill(panel, el("h2", {}, "What the run takes"), el("dl", {}, found.rows.map(([name, text]) =>
    [el("dt", {}, name), el("dd", name === "Charge" && found.over_cap ? { class: "warn" } : {}, text)]).flat()),
    notes(found),
    el("div", { class: "actions" }, price(found), start, form.may_start ? "" : el("span", { class: "soft" }, `You lack the permission to trigger ${form.feed}.`)));
  status(found.sentence || found.notes.join(". "));
}

/** A button that asks the provider for the charge, if it charges and the charge is not known. */
function price(found) {
  if (!found.askable || !form.may_start) return "";
  return el("button", { type: "button", onclick: (event) => { event.target.disabled = true; status("Calling the provider ..."); ask("plan/price").catch(problem); } }, "Request the charge");
}

function notes(found) {
  return found.notes.length ? el("ul", { class: "plain" }, found.notes.map((text) => el("li", {}, text))) : "";
}

/** Show the figures once more, then start the run with exactly these params. */
function confirm(found) {
  const line = el("p", { role: "status" });
  const go = el("button", { class: "main", type: "submit" }, "Start the run");
  const box = el("dialog", { "aria-label": `Start ${form.feed}`, onclose: () => box.remove() },
    el("form", { onsubmit: (event) => { event.preventDefault(); go.disabled = true; run(found, box).catch((error) => { line.textContent = error.message; line.className = "warn"; go.disabled = false; }); } },
      el("h2", {}, `Start ${form.feed}`), found.sentence ? el("p", {}, found.sentence) : "", el("p", {}, `Charge: ${charge(found)}.`), notes(found), listed(found.conf),
      found.paused ? el("p", {}, `${form.feed} is paused and stays paused: the run waits until the DAG is unpaused.`) : "",
      line, el("div", { class: "actions" }, go, el("button", { type: "button", onclick: () => box.close() }, "Cancel"))));
  document.body.append(box);
  box.showModal();
}

const charge = (found) => found.rows.find(([name]) => name === "Charge")[1];

async function run(found, box) {
  const { calls, cost_usd: cost } = found.totals;
  const agreed = await act("plan/start", { feed: form.feed, params: found.conf, calls, cost_usd: cost });
  const made = await trigger(agreed.dag_id, agreed.conf);
  box.close();
  const id = made.dag_run_id, where = new URLSearchParams({ dag_id: agreed.dag_id, run_id: id });
  const place = `${ROOT}/dags/${encodeURIComponent(agreed.dag_id)}/runs/${encodeURIComponent(id)}`;
  panel.append(el("div", { role: "status", id: "started" },
    el("p", {}, `Run ${id} is ${made.state}`, agreed.paused ? `: ${agreed.dag_id} is paused, so it waits until the DAG is unpaused. ` : ". ",
      el("a", { href: `run?${where}` }, "Its progress"), " · ", el("a", { href: place, target: "_top" }, "The run in Airflow"))));
}

load().catch(problem);
