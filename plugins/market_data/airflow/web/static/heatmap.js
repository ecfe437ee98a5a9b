// A heat map of symbols x periods on a canvas that is as large as the visible part, whatever the number of cells.

const SIZE = { years: [56, 18], months: [22, 18], days: [16, 18] };
const LABEL = 92;
const HEAD = 34;

/** Decode "h250m1" to a letter code per session. */
export function decode(text, length, letters) {
  const found = new Uint8Array(length);
  let at = 0;
  for (const [, letter, count] of text.matchAll(/([a-z.])(\d+)/g)) {
    const end = at + Number(count);
    found.fill(letters.indexOf(letter), at, end);
    at = end;
  }
  return found;
}

/** Group sessions by zoom: years, months or days, each with its first and last session's place. */
export function periods(sessions, zoom) {
  const width = { years: 4, months: 7, days: 10 }[zoom];
  const found = [];
  sessions.forEach((day, place) => {
    const name = day.slice(0, width);
    if (!found.length || found[found.length - 1].name !== name) found.push({ name, first: place, last: place });
    else found[found.length - 1].last = place;
  });
  return found;
}

export class HeatMap {
  /** @param chosen called with {symbol, period} of the cell that Enter or a click opens; moved: of the one under the cursor. */
  constructor({ letters, chosen, moved }) {
    Object.assign(this, { letters, chosen, moved, rows: [], columns: [], at: [0, 0], zoom: "years" });
    this.none = letters.indexOf(".");
    this.node = document.createElement("div");
    this.node.className = "map";
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "application");
    this.node.setAttribute("aria-roledescription", "heat map");
    this.node.setAttribute("aria-label", "Coverage by symbol and session. Arrows move, Enter opens, Escape zooms out. A table follows.");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.space = document.createElement("div");
    this.space.className = "space";
    this.node.append(this.canvas, this.space);
    this.node.addEventListener("scroll", () => this.draw());
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  /** @param rows [{symbol, codes}]; sessions: ISO dates. */
  show(rows, sessions, zoom) {
    const symbol = this.rows[this.at[0]]?.symbol; // the cursor stays on its symbol where other rows are hidden or shown
    Object.assign(this, { rows, zoom, columns: periods(sessions, zoom) });
    const row = rows.findIndex((one) => one.symbol === symbol);
    this.at = [row < 0 ? 0 : row, Math.min(this.at[1], Math.max(0, this.columns.length - 1))];
    const [width, height] = SIZE[zoom];
    // The element that gives the scroll area its size is one pixel at the far end.
    this.space.style.left = `${LABEL + this.columns.length * width}px`;
    this.space.style.top = `${HEAD + rows.length * height}px`;
    this.draw();
  }

  /** Return the code that stands for a period: the last kind that occurs, and how many cells are of it. */
  summary(row, column) {
    const { first, last } = this.columns[column];
    const codes = this.rows[row].codes;
    let worst = -1, count = 0;
    for (let place = first; place <= last; place++) {
      const code = codes[place];
      if (code === this.none) continue;
      if (code > worst) [worst, count] = [code, 1];
      else if (code === worst) count++;
    }
    return worst < 0 ? [this.none, 0] : [worst, count];
  }

  move(row, column) {
    if (!this.rows.length || !this.columns.length) return;
    this.at = [Math.max(0, Math.min(row, this.rows.length - 1)), Math.max(0, Math.min(column, this.columns.length - 1))];
    const [width, height] = SIZE[this.zoom];
    const left = this.at[1] * width, top = this.at[0] * height, view = this.node;
    const room = [view.clientWidth - LABEL - width, view.clientHeight - HEAD - height];
    if (left < view.scrollLeft) view.scrollLeft = left;
    if (left > view.scrollLeft + room[0]) view.scrollLeft = left - room[0];
    if (top < view.scrollTop) view.scrollTop = top;
    if (top > view.scrollTop + room[1]) view.scrollTop = top - room[1];
    this.draw();
    this.moved(this.here());
  }

  here() {
    const [row, column] = this.at;
    const [code, count] = this.summary(row, column);
    return { symbol: this.rows[row].symbol, period: this.columns[column], letter: this.letters[code], count };
  }

  key(event) {
    const [row, column] = this.at;
    const page = Math.max(1, Math.floor((this.node.clientHeight - HEAD) / SIZE[this.zoom][1]) - 1);
    const moves = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      PageUp: [row - page, column], PageDown: [row + page, column], Home: [row, 0], End: [row, this.columns.length - 1],
    };
    if (moves[event.key]) this.move(...moves[event.key]);
    else if (event.key === "Enter" && this.rows.length) this.chosen(this.here());
    else if (event.key === "Escape") this.out();
    else return;
    event.preventDefault();
  }

  click(event) {
    const box = this.node.getBoundingClientRect();
    const [width, height] = SIZE[this.zoom];
    const x = event.clientX - box.left - this.node.clientLeft - LABEL, y = event.clientY - box.top - this.node.clientTop - HEAD;
    if (x < 0 || y < 0) return;
    const row = Math.floor((y + this.node.scrollTop) / height), column = Math.floor((x + this.node.scrollLeft) / width);
    if (row >= this.rows.length || column >= this.columns.length) return;
    this.move(row, column);
    this.chosen(this.here());
  }

  /** Rows and columns in view: first and end of each. */
  visible() {
    const [width, height] = SIZE[this.zoom];
    const row = Math.floor(this.node.scrollTop / height), column = Math.floor(this.node.scrollLeft / width);
    return [
      [row, Math.min(this.rows.length, row + Math.ceil((this.node.clientHeight - HEAD) / height) + 1)],
      [column, Math.min(this.columns.length, column + Math.ceil((this.node.clientWidth - LABEL) / width) + 1)],
    ];
  }

  draw() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => { this.waits = false; this.paint(); });
  }

  paint() {
    const { clientWidth: wide, clientHeight: high, scrollLeft, scrollTop } = this.node;
    const scale = devicePixelRatio || 1, look = getComputedStyle(document.documentElement);
    const colour = (name) => look.getPropertyValue(name).trim();
    this.canvas.width = wide * scale;
    this.canvas.height = high * scale;
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = colour("--ground");
    pen.fillRect(0, 0, wide, high);
    const [width, height] = SIZE[this.zoom];
    const [[top, bottom], [left, right]] = this.visible();
    const fills = this.letters.map((letter) => [colour(`--cell-${letter}`), colour(`--on-${letter}`)]);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (let row = top; row < bottom; row++) {
      const y = HEAD + row * height - scrollTop;
      for (let column = left; column < right; column++) {
        const [code, count] = this.summary(row, column);
        if (code === this.none) continue;
        const x = LABEL + column * width - scrollLeft;
        pen.fillStyle = fills[code][0];
        pen.fillRect(x + 0.5, y + 0.5, width - 1, height - 1);
        if (code > 0) {
          pen.fillStyle = fills[code][1];
          pen.font = "600 11px ui-monospace, monospace";
          pen.fillText(this.zoom === "years" ? `${this.letters[code]} ${count}` : this.letters[code], x + width / 2, y + height / 2 + 1);
        }
      }
    }
    this.paintHeads(pen, colour, [top, bottom], [left, right], wide);
    const [row, column] = this.at;
    if (this.rows.length && this.columns.length) {
      pen.save();
      pen.beginPath();
      pen.rect(LABEL, HEAD, wide, high);
      pen.clip();
      pen.strokeStyle = colour("--text");
      pen.lineWidth = 2;
      pen.strokeRect(LABEL + column * width - scrollLeft, HEAD + row * height - scrollTop, width, height);
      pen.restore();
    }
    this.painted?.();
  }

  paintHeads(pen, colour, [top, bottom], [left, right], wide) {
    const [width, height] = SIZE[this.zoom];
    pen.fillStyle = colour("--raised");
    pen.fillRect(0, HEAD, LABEL, this.node.clientHeight);
    pen.fillStyle = colour("--text");
    pen.textAlign = "left";
    pen.font = "12px system-ui, sans-serif";
    for (let row = top; row < bottom; row++) {
      pen.fillText(this.rows[row].symbol.slice(0, 14), 6, HEAD + row * height - this.node.scrollTop + height / 2 + 1, LABEL - 10);
    }
    pen.fillStyle = colour("--raised");
    pen.fillRect(0, 0, wide, HEAD);
    pen.fillStyle = colour("--text");
    let before = "", free = 0;
    for (let column = left; column < right; column++) {
      const name = this.columns[column].name, x = LABEL + column * width - this.node.scrollLeft;
      if (x < LABEL - width) continue;
      const head = this.zoom === "days" ? name.slice(0, 7) : name.slice(0, 4);
      if (head !== before && x >= free) {
        pen.fillText(head, Math.max(x, LABEL) + 2, 10);
        free = x + 54;
      }
      before = head;
      if (this.zoom !== "years") pen.fillText(name.slice(-2), x + 2, 25, width - 3);
    }
    pen.fillStyle = colour("--raised");
    pen.fillRect(0, 0, LABEL, HEAD);
  }
}
