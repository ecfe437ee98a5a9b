// Page Feeds: a card per feed, each read on its own, so that one that cannot be read hides no other.

import { counted, el, feedsToSee, fill, pageLink, read, status } from "./base.js";

const page = document.getElementById("page");
const AT_ONCE = 3;

function strip(sessions) {
  return el("ul", { class: "strip", "aria-label": `The last ${counted(sessions.length, "session")}` },
    sessions.map((one) => el("li", { class: `key kind-${one.letter === "." ? "none" : one.letter}`, title: one.text },
      el("span", { "aria-hidden": "true" }, one.letter === "." ? "·" : one.letter), el("span", { class: "unseen" }, one.text))));
}

function row(name, ...values) {
  return [el("dt", {}, name), el("dd", {}, ...values)];
}

function tonight(data) {
  if (!data.next) return "no schedule: runs are triggered by hand";
  const when = `${data.next.new_york} New York (${data.next.utc} UTC), session ${data.next.session}`;
  return data.is_paused ? `${when}, only if the DAG is unpaused` : when;
}

function spent(data) {
  const unknown = data.spend.unknown ? `, ${counted(data.spend.unknown, "run")} without a recorded charge` : "";
  return `${data.spend.text} in 30 days${unknown}; ${data.cap ? `a run may cost at most ${data.cap}` : "no cap (max_cost_usd) is set"}`;
}

function filled(data) {
  const used = data.daily_limit == null ? `${data.calls.toLocaleString("en")} in 24 h` : `${data.calls.toLocaleString("en")} of ${data.daily_limit.toLocaleString("en")} in 24 h`;
  return [
    el("p", {}, el("strong", {}, data.behind_text), data.last_complete ? `, last complete session ${data.last_complete}` : "",
      data.is_paused ? el("span", { class: "warn" }, " · paused") : " · not paused"),
    strip(data.strip),
    el("dl", {}, row("Next run", tonight(data)),
      row("Connection", data.problem ? el("span", { class: "warn" }, data.problem) : `${data.connection}: ready`),
      row("Calls", data.problem ? used : `${used}, by runs that ended (${data.quota})`),
      data.charges ? row("Spend", spent(data)) : [],
      data.hosts ? row("Hosts", el("span", { class: "warn" }, data.hosts)) : []),
    data.notes.length ? el("ul", { class: "plain warn" }, data.notes.map((note) => el("li", {}, note))) : "",
    el("p", { class: "actions" }, pageLink("plan", { feed: data.feed }, "Plan"), pageLink("coverage", { feed: data.feed }, "Coverage"),
      data.timeframe && pageLink("prices", { feed: data.feed }, "Prices"), pageLink("quality", { feed: data.feed }, "Quality")),
  ];
}

async function show(feed, card) {
  const body = el("div", {}, "Loading ...");
  fill(card, el("h2", {}, feed), body);
  try {
    fill(body, filled(await read("feed", { feed })));
    return true;
  } catch (error) {
    fill(body, el("p", { class: "warn" }, error.message));
    return false;
  }
}

async function load() {
  const feeds = await feedsToSee();
  const cards = feeds.map((feed) => el("section", { class: "cell", "aria-label": feed }));
  fill(page, el("div", { class: "cards" }, cards));
  const open = feeds.map((feed, number) => [feed, cards[number]]);
  let failed = 0;
  const work = async () => { for (let one; (one = open.shift());) if (!await show(...one)) failed += 1; };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  status(failed ? `${failed} of ${counted(feeds.length, "feed")} cannot be shown` : counted(feeds.length, "feed"), failed > 0);
}

load().catch((error) => status(error.message, true));
