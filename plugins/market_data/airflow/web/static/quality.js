// Page Quality: what was rejected, with release; restatements, disagreements, the latest audit.

import { address, counted, el, feedsToSee, fill, follow, moment, read, select, status, table, trigger, unpauseBox } from "./base.js";

const page = document.getElementById("page");
const SKIPPED = new Set(["symbol", "session", "reasons", "received_at"]);
const NAMED = 5;
let data;

function problem(error) { status(error.message, true); }

async function load() {
  status("Loading ...");
  const listed = feedsToSee();
  const feed = address.get("feed") || (await listed)[0];
  const [feeds, found] = await Promise.all([listed, read("quality", { feed, source: address.get("source") })]);
  data = found;
  build(feeds);
  const held = [...data.refused, ...data.quarantined].reduce((sum, one) => sum + one.symbols.length, 0);
  status(held ? `${data.feed}, ${data.source}: ${counted(held, "cell")} ${held === 1 ? "waits" : "wait"} for a decision` : `${data.feed}, ${data.source}: nothing waits for a decision`);
}

function again(values) { address.set(values); load().catch(problem); }

function section(title, rows, empty, ...parts) {
  return el("section", { "aria-label": title }, el("h2", {}, title), rows.length ? parts : el("p", { class: "soft" }, empty));
}

/** The first symbols, and how many there are. */
function named(symbols) {
  return symbols.length > NAMED ? `${symbols.slice(0, NAMED).join(", ")} ... (${counted(symbols.length, "symbol")})` : symbols.join(", ");
}

/** Buttons that decide on the cells of symbols in a session. */
function decisions(what) {
  return el("span", { class: "actions" },
    el("button", { onclick: () => decide("release", what) }, "Release"), el("button", { onclick: () => decide("confirm", what) }, "Confirm wrong"));
}

function build(feeds) {
  const groups = (rows) => rows.map((one) => [one.session, String(one.symbols.length), named(one.symbols), one.reason, moment(one.at), one.run_id,
    decisions({ session: one.session, symbols: one.symbols })]);
  const values = (row) => Object.entries(row).filter(([name]) => !SKIPPED.has(name) && !name.endsWith("_id")).map(([name, value]) => `${name} ${value}`).join(", ");
  const audit = data.audit;
  const listed = new Set(data.rows.map((row) => `${row.session} ${row.symbol}`));
  const unlisted = data.quarantined.filter((one) => one.symbols.some((symbol) => !listed.has(`${one.session} ${symbol}`)));
  fill(page, 
    el("div", { class: "controls" },
      select("Feed", feeds, data.feed, (feed) => again({ feed, source: "" })),
      data.sources.length > 1 && select("Source", data.sources, data.source, (source) => again({ source }))),
    data.notes.length ? el("ul", { class: "plain warn" }, data.notes.map((note) => el("li", {}, note))) : "",
    section("Refused by the checkpoint", data.refused, "No session is refused.",
      table("Refused cells by session", ["Session", "Cells", "Symbols", "Reason", "Recorded", "Run", "Decide"], groups(data.refused))),
    section("Quarantined", data.quarantined, "No cell is quarantined.",
      table("Rejected rows, as received", ["Symbol", "Session", "Reasons", "Values", "Received", "Decide"], data.rows.map((row) => [row.symbol, row.session, row.reasons, values(row), moment(row.received_at),
        decisions({ session: row.session, symbols: [row.symbol] })])),
      data.cells_left_out > 0 && el("p", { class: "soft" }, `The rows of ${counted(data.cells_left_out, "further cell")} are not listed.`),
      unlisted.length > 0 && table("Cells whose rows are not listed", ["Session", "Cells", "Symbols", "Reason", "Recorded", "Run", "Decide"], groups(unlisted))),
    section("Restatements", data.restatements, "No value was restated in the last 30 days.",
      table("Values that changed after publication, last 30 days", ["Symbol", "Session", "Rows", "Found", "Run"], data.restatements.map((one) => [one.symbol, one.session, String(one.rows), moment(one.at), one.run_id]))),
    section("Disagreements of providers", data.disagreements, "No difference is known: daily closes of the last 30 sessions and corporate actions are compared.",
      table("Values on which providers differ", ["Symbol", "Session", "Value", "One", "Other"], data.disagreements.map((one) => [one.symbol, one.session, one.what, `${one.value_a} (${one.provider_a})`, `${one.value_b} (${one.provider_b})`]))),
    section("Latest audit", audit ? [audit] : [], "No audit was made yet: run maintain_coverage.",
      audit && el("p", {}, `${moment(audit.at)}: ${Object.entries(audit.counts).map(([name, count]) => `${count.toLocaleString("en")} ${name.replaceAll("_", " ")}`).join(", ")}`),
      audit && table("Findings by cause", ["Cause", "Findings"], Object.entries(audit.causes).map(([cause, count]) => [cause, String(count)])),
      audit && el("ul", { class: "plain" }, audit.notes.map((note) => el("li", {}, note)))));
}

function decide(action, { session, symbols }) {
  const words = action === "release" ? "Release: load the values as they are" : "Confirm wrong: never load nor request them again";
  const reason = el("textarea", { rows: "3", maxlength: "500", required: true });
  const unpause = unpauseBox(data.paused);
  const line = el("p", { role: "status" });
  const start = el("button", { class: "main", type: "submit" }, action === "release" ? "Release" : "Confirm wrong");
  const box = el("dialog", { "aria-label": words, onclose: () => box.remove() },
    el("form", { onsubmit: (event) => { event.preventDefault(); run().catch((error) => { line.textContent = error.message; line.className = "warn"; start.disabled = false; }); } },
      el("h2", {}, words), el("p", {}, `${data.feed}, ${data.source}: ${named(symbols)}, ${session}: ${counted(symbols.length, "cell")}.`),
      el("label", {}, "Reason (the journal keeps it with your name)", reason), unpause.node, line,
      el("div", { class: "actions" }, start, el("button", { type: "button", onclick: () => box.close() }, "Cancel"))));
  async function run() {
    if (!reason.value.trim()) { line.textContent = "A reason is needed."; reason.focus(); return; }
    if (!unpause.agreed()) { line.textContent = "maintain_state is paused: agree to unpause it."; unpause.box.focus(); return; }
    start.disabled = true;
    const conf = { action, feeds: [data.feed], source: data.source, symbols, start_date: session, end_date: session, reason: reason.value.trim(), dry_run: false };
    const started = await trigger("maintain_state", conf, data.paused);
    await follow(started, (text) => { line.textContent = text; });
    box.close();
    await load();
  }
  document.body.append(box);
  box.showModal();
  reason.focus();
}

load().catch(problem);
