// A chart of candles, volumes and lines, on the library Lightweight Charts of TradingView 5.2.1: dist/ of its npm package, unchanged.
// All times are seconds on the clock of the exchange.

import "./lightweight-charts.standalone.production.js";

const { CandlestickSeries, HistogramSeries, LineSeries, createChart, createSeriesMarkers } = window.LightweightCharts;
const QUIET = { priceLineVisible: false, lastValueVisible: false };
const PRICE_PANE = 0, VOLUME_PANE = 1, DEVIATION_PANE = 2;
const ZOOM = 1.25;

/** What is marked: the letter on the chart, and the variable of its colour in the order of weight. */
export const KINDS = {
  quarantined: { letter: "Q", color: "--warn" },
  refused: { letter: "R", color: "--warn" },
  restated: { letter: "C", color: "--text" },
  split: { letter: "S", color: "--accent" },
  dividend: { letter: "D", color: "--accent" },
};

/** The look of the lines, in order; a dash tells them apart without colour. */
export const LINES = [
  { color: "--line-1", lineStyle: 0 }, { color: "--line-2", lineStyle: 2 }, { color: "--line-3", lineStyle: 1 },
  { color: "--line-4", lineStyle: 3 }, { color: "--line-5", lineStyle: 4 },
];

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Return digits after the point that tell neighbouring prices of this size apart. */
function digits(price) {
  const size = Math.abs(price);
  return size >= 10 ? 2 : size >= 1 ? 4 : 6;
}

/** Pair times with values; a time without a value is kept as a gap. */
function points(times, values) {
  return times.map((time, n) => (values[n] == null ? { time } : { time, value: values[n] }));
}

export class PriceChart {
  /** @param moved called with the place of the bar under the cursor; ranged: when other bars are visible; text: the text of a time. */
  constructor({ moved, ranged, text }) {
    Object.assign(this, { moved, text, times: [], bars: null, at: -1, lines: [], wanted: null });
    this.node = document.createElement("div");
    this.node.className = "chart";
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "application");
    this.node.setAttribute("aria-roledescription", "price chart");
    this.node.setAttribute("aria-label", "Candles. Left and Right move by a bar, Page Up and Page Down by a screen, Home and End to the ends, plus and minus zoom. A table follows.");
    const inside = document.createElement("div");
    inside.setAttribute("aria-hidden", "true");
    this.node.append(inside);
    this.chart = createChart(inside, {
      autoSize: true,
      layout: {
        attributionLogo: false, // it needs an inline style, which the security policy forbids; the page has the notice as text
        background: { color: color("--ground") }, textColor: color("--text"), fontSize: 12, fontFamily: "system-ui, sans-serif",
        panes: { separatorColor: color("--line"), enableResize: false },
      },
      grid: { vertLines: { color: color("--raised") }, horzLines: { color: color("--raised") } },
      rightPriceScale: { borderColor: color("--line") },
      timeScale: { borderColor: color("--line"), secondsVisible: false },
      crosshair: { mode: 0 },
      localization: { locale: "en", timeFormatter: text },
    });
    const up = color("--up"), down = color("--down");
    const looks = { upColor: color("--ground"), downColor: down, borderUpColor: up, borderDownColor: down, wickUpColor: up, wickDownColor: down, priceLineColor: color("--soft") };
    this.candles = this.chart.addSeries(CandlestickSeries, looks, PRICE_PANE);
    this.volumes = this.chart.addSeries(HistogramSeries, { ...QUIET, color: color("--soft"), priceFormat: { type: "volume" } }, VOLUME_PANE);
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => { this.wanted = null; ranged(); });
    this.chart.subscribeCrosshairMove((event) => event.sourceEvent && event.time !== undefined && this.moveTo(this.times.indexOf(event.time)));
    this.node.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * Draw. The visible part stays as it is unless the first or last bar is another one.
   *
   * @param bars columns time, open, high, low, close, volume; lines: [{time, value, deviation}], values may be null;
   *   marks: [{time, kind}]; daily: true where times are dates.
   */
  show({ bars, lines, marks, daily }) {
    const same = bars.time.length === this.times.length && bars.time[0] === this.times[0] && bars.time.at(-1) === this.times.at(-1);
    const precision = digits(bars.close.length ? bars.close.at(-1) : 1);
    const priceFormat = { type: "price", precision, minMove: 10 ** -precision };
    for (const one of this.lines) this.chart.removeSeries(one);
    this.lines = [];
    this.chart.timeScale().applyOptions({ timeVisible: !daily });
    if (this.bars !== bars) {
      this.bars = bars;
      this.times = bars.time;
      this.candles.applyOptions({ priceFormat });
      this.candles.setData(bars.time.map((time, n) => ({ time, open: bars.open[n], high: bars.high[n], low: bars.low[n], close: bars.close[n] })));
      this.volumes.setData(points(bars.time, bars.volume));
    }
    lines.forEach((line, n) => {
      const look = LINES[n % LINES.length];
      this.line({ priceFormat, lineWidth: 2, lineStyle: look.lineStyle, color: color(look.color) }, line.deviation ? DEVIATION_PANE : PRICE_PANE, points(line.time, line.value));
    });
    this.mark(marks);
    this.chart.panes().forEach((pane, n) => pane.setStretchFactor(n ? 1 : 4));
    if (same) return;
    this.at = bars.time.length - 1;
    this.chart.timeScale().fitContent();
  }

  line(options, pane, data) {
    const made = this.chart.addSeries(LineSeries, { ...QUIET, crosshairMarkerVisible: false, ...options }, pane);
    made.setData(data);
    this.lines.push(made);
    return made;
  }

  /** Mark times. A line that is not drawn holds the marks, so that one whose bar is missing keeps its own place. */
  mark(marks) {
    const kinds = new Map();
    for (const { time, kind } of marks) kinds.set(time, (kinds.get(time) || new Set()).add(kind));
    const times = [...kinds.keys()].sort((one, other) => one - other);
    const place = (time) => {
      const next = this.times.findIndex((one) => one >= time);
      const near = next < 0 ? this.times.length - 1 : next;
      return near < 0 ? 0 : this.bars.high[near];
    };
    const line = this.line({ lineVisible: false }, PRICE_PANE, points(times, times.map(place)));
    createSeriesMarkers(line, times.map((time) => {
      const found = Object.entries(KINDS).filter(([kind]) => kinds.get(time).has(kind)).map(([, look]) => look);
      return { time, position: "aboveBar", shape: "arrowDown", color: color(found[0].color), text: found.map((look) => look.letter).join(" ") };
    }));
  }

  /** The places of the visible bars: first, and last plus one. */
  visible() {
    const range = this.chart.timeScale().getVisibleRange();
    if (!range) return [0, 0];
    const first = this.times.findIndex((time) => time >= range.from);
    const end = this.times.findIndex((time) => time > range.to);
    return first < 0 ? [0, 0] : [first, end < 0 ? this.times.length : end];
  }

  moveTo(place) {
    if (place < 0 || place >= this.times.length) return;
    this.at = place;
    this.moved(place);
  }

  /** The visible part. The chart takes a new one with its next frame only, and keys may be quicker. */
  part() { return this.wanted || this.chart.timeScale().getVisibleLogicalRange(); }

  showPart(from, to) {
    this.wanted = { from, to };
    this.chart.timeScale().setVisibleLogicalRange(this.wanted);
  }

  /** Move the cursor, and the visible part with it. */
  go(place) {
    const to = Math.max(0, Math.min(this.times.length - 1, place));
    if (!this.times.length) return;
    const scale = this.chart.timeScale(), range = this.part(), index = scale.timeToIndex(this.times[to], true);
    const shift = index < range.from ? index - range.from : index > range.to ? index - range.to : 0;
    if (shift) this.showPart(range.from + shift, range.to + shift);
    this.chart.setCrosshairPosition(this.bars.close[to], this.times[to], this.candles);
    this.moveTo(to);
  }

  zoom(factor) {
    const scale = this.chart.timeScale(), range = this.part();
    if (!range || !this.times.length) return;
    const middle = scale.timeToIndex(this.times[this.at], true);
    this.showPart(middle - (middle - range.from) * factor, middle + (range.to - middle) * factor);
  }

  key(event) {
    const [first, end] = this.visible();
    const screen = Math.max(1, end - first - 1);
    const action = {
      ArrowLeft: () => this.go(this.at - 1), ArrowRight: () => this.go(this.at + 1),
      PageUp: () => this.go(this.at - screen), PageDown: () => this.go(this.at + screen),
      Home: () => this.go(0), End: () => this.go(this.times.length - 1),
      "+": () => this.zoom(1 / ZOOM), "=": () => this.zoom(1 / ZOOM), "-": () => this.zoom(ZOOM),
    }[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }
}
