// Page Prices: candles and volumes of a symbol, closes of other sources over them, marks, and features of the warehouse.

import { address, counted, el, feedsToSee, fill, pageLink, read, select, status, table } from "./base.js";
import { KINDS, LINES, PriceChart } from "./price_chart.js";

const page = document.getElementById("page");
const ADJUST = [["none", "Raw, as the vendor gave them"], ["splits", "Adjusted for splits"], ["all", "Adjusted for splits and dividends"]];
const FEATURES = { ma_20: "Mean of 20 closes", ma_50: "Mean of 50 closes", close_stddev_20d: "Deviation of 20 closes" };
const MARKED = { quarantined: "Quarantined", refused: "Refused", restated: "Restated", split: "Split", dividend: "Dividend" };
const DAY = 86400000;
const MOST_ROWS = 200;
const n = (value) => (value == null ? "" : value.toLocaleString("en", { maximumFractionDigits: 6 }));
let place, data, gold, chart, parts, turn = 0;

const names = (key) => (address.get(key) || "").split(",").filter(Boolean);
const iso = (seconds) => new Date(seconds * 1000).toISOString();
const timeText = (seconds) => (place.timeframe === "1d" ? iso(seconds).slice(0, 10) : iso(seconds).slice(0, 16).replace("T", " "));
const query = () => ({ feed: place.feed, source: place.source, symbol: place.symbol, from: address.get("from"), to: address.get("to") });

function problem(error) { status(error.message, true); }

/** Read what can be chosen, build the controls, then show the bars. */
async function load() {
  status("Loading ...");
  const feeds = await feedsToSee("prices/feeds"), wanted = address.get("feed");
  const feed = feeds.includes(wanted) ? wanted : feeds[0];
  if (feed !== wanted) address.set({ feed, source: "", over: "", from: "", to: "" });
  place = await read("prices/place", { feed, source: address.get("source") });
  place.symbol = address.get("symbol") || place.symbols[0] || "";
  build(feeds, wanted && feed !== wanted ? `${wanted} is not a feed of bars that you may see: ${feed} is shown` : "");
  if (place.symbol) await show();
  else status(`${place.feed}: nothing is recorded yet. Run its DAG first.`);
}

function again(values) {
  address.set(values);
  load().catch(problem);
}

function change(values) {
  address.set(values);
  show().catch(problem);
}

function build(feeds, note) {
  chart?.chart.remove();
  chart = new PriceChart({ moved: announce, ranged: () => parts?.visible.open && fillTable(), text: timeText });
  const symbol = el("input", { list: "symbols", size: "12", maxlength: "64", value: place.symbol, required: true, autocomplete: "off" });
  const dates = Object.fromEntries(["from", "to"].map((name) => [name, el("input", { type: "date", value: address.get(name) || "" })]));
  const boxes = (key, options) => options.map(([value, text]) => el("label", { class: "check" },
    el("input", { type: "checkbox", checked: names(key).includes(value), onchange: (event) => toggle(key, value, event.target.checked) }), text));
  const move = (step) => () => data && shift(step, dates);
  parts = {
    symbol, dates,
    here: el("p", { class: "soft", role: "status", id: "here" }),
    back: el("p", { class: "actions" }),
    notes: el("div"),
    legend: el("ul", { class: "legend", "aria-label": "Legend" }),
    marks: el("section", { "aria-label": "Marks" }),
    visible: el("details", { ontoggle: () => parts.visible.open && fillTable() }, el("summary", {}, "The visible bars as a table"), el("div")),
  };
  fill(page,
    [note, ...place.notes].filter(Boolean).map((text) => el("p", { class: "warn" }, text)),
    el("form", { class: "controls", onsubmit: (event) => { event.preventDefault(); submit(); } },
      select("Feed", feeds, place.feed, (feed) => again({ feed, source: "", over: "", from: "", to: "" })),
      place.sources.length > 1 && select("Source", place.sources, place.source, (source) => again({ source, over: "" })),
      el("label", {}, "Symbol", symbol, el("datalist", { id: "symbols" }, place.symbols.map((one) => el("option", { value: one })))),
      el("label", {}, "From", dates.from), el("label", {}, "To", dates.to), el("button", { class: "main", type: "submit" }, "Show"),
      select("Prices", ADJUST, address.get("adjust") || "none", (adjust) => change({ adjust: adjust === "none" ? "" : adjust }))),
    el("div", { class: "controls" },
      el("span", { class: "actions" }, el("button", { onclick: move(-1) }, "Earlier"), el("button", { onclick: move(1) }, "Later"),
        el("button", { onclick: () => { dates.from.value = dates.to.value = ""; submit(); } }, "Latest")),
      place.others.length > 0 && el("fieldset", { class: "boxes" }, el("legend", {}, "Closes of"), boxes("over", place.others.map((one) => [one, one]))),
      place.timeframe === "1d" && el("fieldset", { class: "boxes" }, el("legend", {}, "Features"), boxes("features", Object.entries(FEATURES)))),
    parts.notes, parts.legend, chart.node,
    el("p", { class: "soft notice" }, "Chart: TradingView Lightweight Charts, Copyright 2023 TradingView, Inc. ",
      el("a", { href: "https://www.tradingview.com/", rel: "noopener noreferrer", target: "_blank" }, "https://www.tradingview.com/")),
    parts.here, parts.back, parts.visible, parts.marks);
  linkBack("");
}

/** Links back: to the symbol's row on page Coverage, at a session if one is chosen, and to page Feeds. */
function linkBack(session) {
  const cell = { feed: place.feed, source: place.source, symbol: place.symbol, session, zoom: session && "days" };
  fill(parts.back, pageLink("coverage", cell, session ? `Coverage of ${place.symbol}, ${session}` : `Coverage of ${place.symbol}`), pageLink("feeds", {}, "All feeds"));
}

function submit() {
  place.symbol = parts.symbol.value.trim();
  change({ symbol: place.symbol, from: parts.dates.from.value, to: parts.dates.to.value });
}

function toggle(key, name, chosen) {
  const found = [...names(key).filter((one) => one !== name), ...(chosen ? [name] : [])].join(",");
  address.set({ [key]: found });
  if (key === "over") show().catch(problem);
  else draw();
}

/** Move the range by its own length. */
function shift(step, dates) {
  const first = Date.parse(data.first), last = Date.parse(data.last), length = last - first + DAY;
  dates.from.value = new Date(first + step * length).toISOString().slice(0, 10);
  dates.to.value = new Date(last + step * length).toISOString().slice(0, 10);
  submit();
}

/** Read and draw the bars; what the warehouse has is added when it is there. */
async function show() {
  const own = ++turn;
  status("Loading ...");
  linkBack("");
  address.set({ symbol: place.symbol });
  const warehouse = read("prices/gold", query()).catch((error) => ({ features: {}, restated: [], notes: [], problem: error.message }));
  let found;
  try {
    found = await read("prices", { ...query(), over: names("over").join(","), adjust: address.get("adjust") });
  } catch (error) {
    if (own === turn) clear();
    throw error;
  }
  if (own !== turn) return;
  data = found;
  gold = null;
  draw();
  const bars = data.bars.time.length;
  status(bars ? `${data.symbol}, ${place.source}: ${counted(bars, "bar")} of ${place.timeframe}, ${timeText(data.bars.time[0])} to ${timeText(data.bars.time[bars - 1])}${data.zone ? `, times of ${data.zone}` : ""}`
    : `${data.symbol}, ${place.source}: there is no bar from ${data.first} to ${data.last}`);
  const later = await warehouse;
  if (own !== turn) return;
  gold = later;
  draw();
}

function clear() {
  data = null;
  gold = null;
  chart.show({ bars: { time: [], open: [], high: [], low: [], close: [], volume: [] }, lines: [], marks: [], daily: true });
  for (const part of [parts.notes, parts.legend, parts.marks, parts.here, parts.visible.lastChild]) fill(part);
}

/** Restated bars by the warehouse, which knows all of them; by the reports of runs where it cannot be read. */
function marksOf() {
  return gold && !gold.problem ? [...data.marks.filter((one) => one.kind !== "restated"), ...gold.restated].sort((one, other) => one.time - other.time) : data.marks;
}

function linesOf() {
  const closes = data.lines.map((line) => ({ title: `Close of ${line.source}`, time: line.time, value: line.close }));
  const features = gold?.features.time && data.adjust === "none" ? Object.keys(FEATURES).filter((name) => names("features").includes(name)) : [];
  return [...closes, ...features.map((name) => ({ title: FEATURES[name], time: gold.features.time, value: gold.features[name], deviation: name === "close_stddev_20d" }))];
}

function notesOf() {
  const found = [...data.notes, ...(gold?.notes || [])];
  if (gold?.problem) found.push(`features, and restatements older than 30 days, are in the warehouse, which cannot be read: ${gold.problem}`);
  else if (names("features").length && data.adjust !== "none") found.push("features are of raw prices: they are not drawn over adjusted ones");
  else if (gold?.features.time) {
    for (const name of names("features")) {
      if (name in FEATURES && gold.features[name].every((value) => value == null)) found.push(`${FEATURES[name]}: the warehouse has no value in this range, because it lacks so many sessions in a row`);
    }
  }
  return found;
}

function draw() {
  if (!data) return;
  const lines = linesOf(), marks = marksOf(), notes = notesOf();
  chart.show({ bars: data.bars, lines, marks, daily: place.timeframe === "1d" });
  fill(parts.notes, notes.length > 0 && el("ul", { class: "plain warn" }, notes.map((note) => el("li", {}, note))));
  fill(parts.legend,
    Object.entries(MARKED).filter(([kind]) => marks.some((one) => one.kind === kind)).map(([kind, text]) => el("li", {}, el("span", { class: "key", "aria-hidden": "true" }, KINDS[kind].letter), text)),
    lines.map((line, number) => el("li", {}, el("span", { class: `line line-${number % LINES.length + 1}`, "aria-hidden": "true" }), line.title)));
  const listed = table("Splits, dividends, and bars that were held back or restated", ["When", "Kind", "Detail"], marks.map((one) => [timeText(one.time), MARKED[one.kind], one.text]));
  listed.classList.add("tall", "bars");
  fill(parts.marks, el("h2", {}, "Marks"), marks.length ? listed : el("p", { class: "soft" }, "Nothing is marked in this range."));
  if (parts.visible.open) fillTable();
}

function announce(at) {
  const { time, open, high, low, close, volume } = data.bars;
  const marked = marksOf().filter((one) => one.time === time[at]).map((one) => `; ${MARKED[one.kind]}: ${one.text}`).join("");
  linkBack(iso(time[at]).slice(0, 10));
  parts.here.textContent = `${timeText(time[at])}: open ${n(open[at])}, high ${n(high[at])}, low ${n(low[at])}, close ${n(close[at])}, volume ${n(volume[at]) || "unknown"}${marked}`;
}

function fillTable() {
  if (!data) return;
  const [first, end] = chart.visible(), { time, open, high, low, close, volume } = data.bars;
  const lines = linesOf().map((line) => [line.title, new Map(line.time.map((one, at) => [one, line.value[at]]))]);
  const shown = Array.from({ length: Math.min(MOST_ROWS, end - first) }, (_, back) => end - 1 - back);
  const caption = shown.length < end - first ? `The latest ${MOST_ROWS} of ${n(end - first)} visible bars` : "Visible bars, latest first";
  const made = table(caption, ["When", "Open", "High", "Low", "Close", "Volume", ...lines.map(([title]) => title)],
    shown.map((at) => [timeText(time[at]), ...[open, high, low, close, volume].map((column) => n(column[at])), ...lines.map(([, values]) => n(values.get(time[at])))]));
  made.classList.add("tall", "bars");
  fill(parts.visible.lastChild, made);
}

load().catch(problem);
