// Page Coverage: the heat map, one cell, the gaps and their repair.

import { act, address, counted, el, feedsToSee, fill, follow, moment, pageLink, read, select, shifted, status, table, trigger, unpauseBox } from "./base.js";
import { HeatMap, decode } from "./heatmap.js";

const page = document.getElementById("page");
const FINER = { years: "months", months: "days" };
const COARSER = { days: "months", months: "years" };
const LISTED = 500;
const AROUND = { "1d": 45 };
const NAMED = { years: "Years", months: "Months", days: "Days" };
let data, map, gaps, chosenIds = new Set(), cellPanel, gapPanel, visibleTable, kinds;

const place = () => ({ feed: data.feed, source: data.source });
const kindOf = (letter) => kinds.get(letter);

async function load() {
  status("Loading ...");
  const listed = feedsToSee();
  const feed = address.get("feed") || (await listed)[0];
  const [feeds, found] = await Promise.all([listed, read("coverage", { feed, source: address.get("source") })]);
  data = found;
  kinds = new Map(data.legend.map((kind) => [kind.letter, kind]));
  const letters = data.legend.map((kind) => kind.letter);
  data.codes = data.rows.map((text) => decode(text, data.sessions.length, letters));
  build(feeds, letters);
  status(data.sessions.length ? `${data.feed}, ${data.source}: ${data.summary}` : `${data.feed}: nothing is recorded yet. Run its DAG first.`);
  loadGaps().catch(problem);
}

function problem(error) { status(error.message, true); }

function build(feeds, letters) {
  const zoom = address.get("zoom") in NAMED ? address.get("zoom") : "years";
  map = new HeatMap({ letters, chosen: open, moved: announce });
  map.out = () => COARSER[map.zoom] && zoomTo(COARSER[map.zoom]);
  map.painted = () => visibleTable.open && fillTable();
  const groups = [["", "All symbols"], ...data.groups.map((group) => [group.name, `${group.name} (${group.symbols.length})`])];
  const zooms = el("fieldset", {}, el("legend", {}, "Zoom"), Object.entries(NAMED).map(([value, text]) =>
    el("label", { class: "check" }, el("input", { type: "radio", name: "zoom", value, checked: value === zoom, onchange: () => zoomTo(value) }), text)));
  const filter = el("input", { type: "search", size: "12", value: address.get("find") || "", oninput: () => { address.set({ find: filter.value }); refresh(); } });
  const onlyGaps = el("input", { type: "checkbox", id: "only-gaps", onchange: refresh });
  cellPanel = el("section", { class: "cell", hidden: true, "aria-label": "Chosen cell", "aria-live": "polite" });
  gapPanel = el("section", { "aria-label": "Gaps" }, el("h2", {}, "Gaps"), el("p", { class: "soft" }, "Loading ..."));
  visibleTable = el("details", { ontoggle: () => visibleTable.open && fillTable() }, el("summary", {}, "The visible part as a table"), el("div"));
  fill(page, 
    el("div", { class: "controls" },
      select("Feed", feeds, data.feed, (feed) => again({ feed, source: "", group: "", symbol: "", session: "" })),
      data.sources.length > 1 && select("Source", data.sources, data.source, (source) => again({ source })),
      select("Symbols", groups, address.get("group") || "", (group) => { address.set({ group }); refresh(); }),
      el("label", {}, "Find a symbol", filter), zooms,
      el("label", { class: "check" }, onlyGaps, "Only symbols with something open")),
    el("ul", { class: "legend", "aria-label": "Legend" }, data.legend.filter((kind) => kind.letter !== ".").map((kind) =>
      el("li", { title: kind.text }, el("span", { class: `key kind-${kind.letter}` }, kind.letter), `${kind.name} ${kind.count.toLocaleString("en")}`))),
    data.notes.length ? el("ul", { class: "plain warn" }, data.notes.map((note) => el("li", {}, note))) : "",
    map.node, el("p", { class: "soft", role: "status", id: "here" }), visibleTable, cellPanel, gapPanel);
  map.zoom = zoom;
  refresh();
  const symbol = address.get("symbol"), session = address.get("session");
  if (symbol) {
    const row = map.rows.findIndex((one) => one.symbol === symbol);
    const column = map.columns.findIndex((one) => session && one.name === session.slice(0, one.name.length));
    map.move(Math.max(0, row), column < 0 ? map.columns.length - 1 : column);
    if (session) openCell(symbol, session);
  } else map.move(0, map.columns.length - 1);
}

function again(values) {
  address.set(values);
  chosenIds = new Set();
  load().catch(problem);
}

function refresh() {
  const group = data.groups.find((one) => one.name === address.get("group"));
  const places = group ? group.symbols : data.symbols.map((_, number) => number);
  const wanted = (address.get("find") || "").toUpperCase();
  const openCodes = new Set(data.legend.map((kind, code) => (kind.final ? -1 : code)));
  const onlyOpen = document.getElementById("only-gaps")?.checked;
  const rows = places.map((number) => ({ symbol: data.symbols[number], codes: data.codes[number] }))
    .filter((row) => row.symbol.toUpperCase().includes(wanted))
    .filter((row) => !onlyOpen || row.codes.some((code) => openCodes.has(code)));
  map.show(rows, data.sessions, map.zoom);
}

function zoomTo(zoom, period) {
  const at = period || map.columns[map.at[1]];
  address.set({ zoom });
  map.zoom = zoom;
  refresh();
  for (const box of page.querySelectorAll("input[name=zoom]")) box.checked = box.value === zoom;
  if (at) map.move(map.at[0], map.columns.findIndex((one) => one.last >= at.last));
}

function announce({ symbol, period, letter, count }) {
  const text = letter === "." ? "not expected" : map.zoom === "days" ? kindOf(letter).name : `${kindOf(letter).name}: ${count} of ${counted(period.last - period.first + 1, "session")}`;
  document.getElementById("here").textContent = `${symbol}, ${period.name}: ${text}`;
}

function open({ symbol, period }) {
  if (FINER[map.zoom]) zoomTo(FINER[map.zoom], period);
  else openCell(symbol, period.name);
}

async function openCell(symbol, session) {
  address.set({ symbol, session });
  cellPanel.hidden = false;
  fill(cellPanel, el("h2", {}, `${symbol}, ${session}`), el("p", { class: "soft" }, "Loading ..."));
  try {
    const cell = await read("coverage/cell", { ...place(), symbol, session });
    fill(cellPanel, 
      el("h2", {}, el("span", { class: `key kind-${cell.letter}` }, cell.letter), ` ${symbol}, ${session}: ${cell.kind}`),
      el("p", {}, cell.why), cell.reason !== "" && el("p", {}, `Reason: ${cell.reason}`), el("p", { class: "soft" }, cell.next),
      cell.history.length > 0 && table("Records, newest first", ["When", "State", "Reason", "Run", "Batch"],
        cell.history.map((one) => [moment(one.at), one.state, one.reason, one.run_id, one.batch_id])),
      cell.decisions.length > 0 && table("Decisions", ["When", "Decision", "By", "Reason"], cell.decisions.map((one) => [moment(one.at), one.kind, one.by, one.reason])),
      cell.restatements.length > 0 && table("Restatements of the last 30 days", ["When", "Run", "Rows"], cell.restatements.map((one) => [moment(one.at), one.run_id, String(one.rows)])),
      el("div", { class: "actions" }, data.timeframe && pricesAround(symbol, session), el("button", { onclick: () => { cellPanel.hidden = true; address.set({ session: "" }); map.node.focus(); } }, "Close")));
  } catch (error) {
    fill(cellPanel, el("h2", {}, `${symbol}, ${session}`), el("p", { class: "warn" }, error.message));
  }
}

/** A link to the chart of a symbol some days around a session. */
function pricesAround(symbol, session) {
  const days = AROUND[data.timeframe] || 3;
  return pageLink("prices", { ...place(), symbol, from: shifted(session, -days), to: shifted(session, days) }, "Prices around it");
}

function fillTable() {
  const [[top, bottom], [left, right]] = map.visible();
  const columns = map.columns.slice(left, Math.min(right, left + 31));
  const rows = map.rows.slice(top, Math.min(bottom, top + 40)).map((row, number) => [row.symbol, ...columns.map((_, column) => {
    const [code, count] = map.summary(top + number, left + column);
    const kind = data.legend[code];
    return kind.letter === "." ? "" : map.zoom === "days" ? kind.name : `${kind.name} ${count}`;
  })]);
  fill(visibleTable.lastChild, table("State of each symbol by period", ["Symbol", ...columns.map((one) => one.name)], rows));
}

async function loadGaps() {
  gaps = await read("coverage/gaps", place());
  showGaps("");
}

function showGaps(cause) {
  const rows = gaps.gaps.filter((gap) => !cause || gap.cause === cause);
  const total = gaps.gaps.length + gaps.left_out, listed = rows.slice(0, LISTED);
  const causes = [["", `All causes (${total})`], ...Object.entries(gaps.causes).map(([name, count]) => [name, `${name} (${count})`])];
  const plan = el("button", { class: "main", onclick: () => planRepair().catch(problem) }, "Plan the repair");
  const update = () => { plan.disabled = !chosenIds.size; plan.textContent = chosenIds.size ? `Plan the repair of ${chosenIds.size}` : "Plan the repair"; };
  const box = (gap) => {
    if (!gap.repairable) return gap.repair === "decide" ? el("a", { href: `quality?feed=${encodeURIComponent(data.feed)}` }, "decide") : "";
    const made = el("input", { type: "checkbox", checked: chosenIds.has(gap.id), "aria-label": `Choose ${gap.symbol || gap.key} ${gap.first_session || ""}`,
      onchange: () => { made.checked ? chosenIds.add(gap.id) : chosenIds.delete(gap.id); update(); } });
    return made;
  };
  const all = el("button", { onclick: () => { listed.filter((gap) => gap.repairable).forEach((gap) => chosenIds.add(gap.id)); showGaps(cause); } }, "Choose all listed");
  const dates = (gap) => gap.first_session === gap.last_session ? gap.first_session : `${gap.first_session} to ${gap.last_session}`;
  fill(gapPanel, el("h2", {}, "Gaps"),
    el("p", { class: "soft" }, `${counted(total, "gap")}. `, gaps.audited ? `Latest audit: ${moment(gaps.audited)}.` : "No audit was made yet: maintain_coverage also finds missing objects and rows.",
      listed.length < (cause ? gaps.causes[cause] : total) ? ` The latest ${counted(listed.length, "gap")} ${cause ? "of this cause " : ""}of ${(cause ? gaps.causes[cause] : total).toLocaleString("en")} are listed: maintain_coverage repairs all.` : ""),
    gaps.gaps.length ? el("div", { class: "actions" }, select("Cause", causes, cause, showGaps), all, plan) : "",
    el("div", { id: "plan" }),
    gaps.gaps.length ? table("Gaps, latest first", ["Choose", "Symbol", "Sessions", "Cause", "Detail", "Repair"],
      listed.map((gap) => [box(gap), gap.symbol || gap.key, dates(gap), gap.cause, gap.detail, gap.repair])) : "");
  update();
}

async function planRepair() {
  const panel = document.getElementById("plan");
  fill(panel, el("p", { class: "soft", role: "status" }, "Planning ..."));
  const body = { ...place(), ids: [...chosenIds] };
  try {
    const planned = await act("coverage/plan", body);
    const unpause = unpauseBox(planned.paused);
    const start = el("button", { class: "main", onclick: () => { start.disabled = true; repair({ ...body, calls: planned.calls, cost_usd: planned.cost_usd || 0 }, planned.paused, panel).catch((error) => panel.append(el("p", { class: "warn" }, error.message))); } }, "Repair");
    const check = () => { start.disabled = !unpause.agreed() || Boolean(planned.problem); };
    unpause.box.addEventListener("change", check);
    check();
    const cost = planned.cost_usd ? `${planned.cost_usd.toFixed(2)} US dollars` : "no charge";
    fill(panel, el("div", { class: "cell", role: "status" },
      el("p", {}, `${counted(planned.calls, "call")}, about ${counted(planned.minutes, "minute")}, ${cost}.`),
      el("ul", { class: "plain" }, planned.sentences.map((text) => el("li", {}, text))),
      planned.problem !== "" && el("p", { class: "warn" }, planned.problem), unpause.node,
      el("div", { class: "actions" }, start, el("button", { onclick: () => fill(panel) }, "Cancel"))));
  } catch (error) {
    fill(panel, el("p", { class: "warn", role: "status" }, error.message));
  }
}

async function repair(body, unpause, panel) {
  const { dag_id: dagId, conf } = await act("coverage/repair", body);
  const run = await trigger(dagId, conf, unpause);
  const line = el("p", { role: "status" }, `${dagId}: started`);
  fill(panel, el("div", { class: "cell" }, line));
  const failed = await follow(run, (text) => { line.textContent = text; }).catch((error) => error);
  chosenIds = new Set();
  await load();
  status(failed ? failed.message : `Repaired: run ${run.dag_run_id} of ${dagId}`, Boolean(failed));
}

load().catch(problem);
