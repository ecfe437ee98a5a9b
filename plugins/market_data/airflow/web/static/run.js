// Page Run: progress of a run while it lasts, then its verdict. Clearing goes through Airflow's own API.

import { address, airflow, el, fill, read, status, table, unpauseBox } from "./base.js";

const page = document.getElementById("page");
const EVERY = 2000;
const FAILED = new Set(["failed", "upstream_failed"]);
const n = (value) => value.toLocaleString("en");
let drawn = "";
let waiting;

function duration(seconds) {
  if (seconds == null) return "unknown";
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

function left({ totals, remaining_seconds: seconds }) {
  if (totals.batches && totals.ended === totals.batches) return "nothing is left to fetch";
  return seconds == null ? "unknown" : `about ${duration(seconds)} of fetching`;
}

function figures(data) {
  const { totals, symbols } = data;
  const rate = totals.calls_per_minute == null ? "" : `, ${n(totals.calls_per_minute)} per minute`;
  const row = (name, text) => [el("dt", {}, name), el("dd", {}, text)];
  return el("dl", {},
    row("Batches", `${n(totals.ended)} of ${n(totals.batches)} ended, ${n(totals.failed)} failed, ${n(totals.running)} running`),
    row("Symbols", `${n(symbols.ok)} ok, ${n(symbols.failed)} failed, ${n(symbols.pending)} pending${symbols.pending ? ` (${symbols.pending_text})` : ""}`),
    row("Rows", `${n(totals.rows)} fetched, ${n(totals.quarantined)} quarantined`),
    row("Calls", `${n(totals.calls)} by batches that ended, ${n(totals.planned_calls)} planned${rate}${data.quota ? ` (${data.quota})` : ""}`),
    row("Elapsed", duration(data.elapsed_seconds)),
    data.finished ? [] : row("Remaining", left(data)),
    row("Steps", data.steps.map((one) => `${one.task_id}: ${one.state}`).join(", ")));
}

function section(title, ...parts) {
  return el("section", { "aria-label": title }, el("h2", {}, title), parts.flat());
}

function list(texts, kind = "") {
  return texts.length ? el("ul", { class: `plain ${kind}` }, texts.map((text) => el("li", {}, text))) : "";
}

function verdict(data) {
  const { red, warnings, other } = data.sentences;
  const nothing = data.finished ? "The tasks left no verdict: see their logs." : "There is no verdict before the run has ended.";
  return section("Verdict", red.length || warnings.length || other.length ? [list(red, "warn"), list(warnings), list(other)] : el("p", { class: "soft" }, nothing));
}

function batches(data) {
  if (!data.batches.length) return "";
  const rows = data.batches.map((one) => [one.label, one.state, n(one.rows), `${n(one.calls)} of ${n(one.planned_calls)}`, n(one.quarantined), one.seconds ? duration(one.seconds) : "",
    [one.reason, ...Object.entries(one.failed_sessions).map(([day, why]) => `${day}: ${why}`)].filter(Boolean).join("; "),
    FAILED.has(one.state) || one.state === "success" ? el("button", { "aria-label": `Clear batch ${one.label}`, onclick: () => clear(data, one) }, "Clear this batch") : ""]);
  const shown = data.batches.length < data.totals.batches ? `, ${data.batches.length} of ${n(data.totals.batches)} shown` : "";
  return section("Batches", table(`Batches, failed ones first${shown}`, ["Batch", "State", "Rows", "Calls", "Quarantined", "Time", "Reason", "Action"], rows));
}

function cells(title, caption, rows, more = "") {
  return rows.length ? section(title, table(caption, ["Symbol", "Session", "Reason"], rows.map((one) => [one.symbol, one.session, one.reason])), more) : "";
}

function results(data) {
  const partitions = [...data.refused.map((one) => [one.partition, "refused", one.reasons.join("; ")]), ...data.warned.map((one) => [one.partition, "passed, with warnings", one.reasons.join("; ")])];
  const quality = el("p", {}, el("a", { href: `quality?${new URLSearchParams({ feed: data.dag_id })}` }, "Release or confirm them on page Quality"));
  return [
    data.symbols.failures.length ? section("Failed symbols", table("Symbols that failed, and why", ["Symbol", "Reason"], data.symbols.failures.map((one) => [one.symbol, one.reason]))) : "",
    cells("Quarantined", "Quarantined cells of this run", data.report.quarantined, quality),
    data.checkpoint ? section("Checkpoint",
      partitions.length ? table("Partitions with findings", ["Partition", "Decision", "Rules"], partitions) : el("p", {}, "Every partition passed without warnings."),
      data.refused.length ? quality.cloneNode(true) : "",
      el("details", {}, el("summary", {}, "All rules"), el("pre", { class: "scroll", tabindex: "0" }, data.checkpoint)),
      data.checkpoint_document ? el("p", { class: "soft" }, "Results in the lake: ", el("code", {}, data.checkpoint_document)) : "",
      data.data_docs ? el("p", { class: "soft" }, "Great Expectations' pages in the lake: ", el("code", {}, data.data_docs)) : "") : "",
    data.report.key || data.lake_problem ? section("Report",
      data.report.key ? el("p", {}, "Report in the lake: ", el("code", {}, data.report.key)) : "",
      list([data.report.problem, data.lake_problem].filter(Boolean), "warn")) : "",
  ];
}

function clear(data, batch) {
  const path = `/dags/${encodeURIComponent(data.dag_id)}/clearTaskInstances`;
  const body = { dag_run_id: data.run_id, task_ids: [["fetch", batch.map_index]], only_failed: false, include_downstream: true, reset_dag_runs: true };
  const unpause = unpauseBox(data.paused);
  const line = el("p", { role: "status" }, "Reading which tasks will be cleared ...");
  const start = el("button", { class: "main", type: "submit", disabled: true }, "Clear");
  const problem = (error) => { line.textContent = error.message; line.className = "warn"; };
  const box = el("dialog", { "aria-label": `Clear batch ${batch.label}`, onclose: () => box.remove() },
    el("form", { onsubmit: (event) => { event.preventDefault(); run().catch(problem); } },
      el("h2", {}, `Clear batch ${batch.label}`), el("p", {}, "Its cells are fetched again, and the tasks after it run again. The other batches stay as they are."),
      unpause.node, line, el("div", { class: "actions" }, start, el("button", { type: "button", onclick: () => box.close() }, "Cancel"))));
  async function run() {
    if (!unpause.agreed()) { line.textContent = `${data.dag_id} is paused: agree to unpause it.`; unpause.box.focus(); return; }
    start.disabled = true;
    for (const id of unpause.paused) await airflow("PATCH", `/dags/${encodeURIComponent(id)}?update_mask=is_paused`, { is_paused: false });
    await airflow("POST", path, { ...body, dry_run: false });
    box.close();
    await refresh();
  }
  document.body.append(box);
  box.showModal();
  airflow("POST", path, { ...body, dry_run: true }).then((found) => {
    line.textContent = `Cleared: ${found.task_instances.map((one) => one.map_index >= 0 ? `${one.task_id} [${one.map_index}]` : one.task_id).join(", ")}.`;
    start.disabled = false;
  }).catch(problem);
}

async function refresh() {
  clearTimeout(waiting);
  const data = await read("run", { dag_id: address.get("dag_id"), run_id: address.get("run_id") });
  if (data.sentence) { status(data.sentence); fill(page); return; }
  status(`${data.dag_id}, ${data.run_id}: ${data.state}${data.paused.length && !data.finished ? ", and its DAG is paused: its tasks wait" : ""}`);
  const { elapsed_seconds: elapsed, remaining_seconds: remaining, ...rest } = data;
  const steady = JSON.stringify({ ...rest, totals: { ...rest.totals, calls_per_minute: 0 } });
  if (steady !== drawn) fill(page, list(data.notes, "warn"), el("div", { id: "figures" }, figures(data)), verdict(data), batches(data), results(data));
  else fill(document.getElementById("figures"), figures(data));
  drawn = steady;
  if (!data.finished) waiting = setTimeout(again, EVERY);
}

/** A request that fails is reported and repeated: the api-server may restart while a run lasts. */
function again() {
  refresh().catch((error) => { status(`${error.message} (tried again)`, true); waiting = setTimeout(again, EVERY * 5); });
}

again();
