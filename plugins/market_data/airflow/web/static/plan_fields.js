// The fields of page Plan: built from the trigger form's definition; their values, and the problems beside them.

import { el, fill } from "./base.js";

const DATE = /^\d{4}-\d\d-\d\d$/;
const OPEN = ["Tuning"];

/** The text of a field for a value, as the field and the address have it. */
export function textOf(field, value) {
  if (value == null) return "";
  if (field.kind === "array") return value.join(",");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The value of a text; what is not of the field's kind stays text, and the server tells what is needed. */
export function valueOf(field, text) {
  if (field.kind === "array") return text.split(/[\n,]/).map((one) => one.trim()).filter(Boolean);
  const found = text.trim();
  if (found === "") return null;
  if (field.kind === "integer" || field.kind === "number") return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(found) ? Number(found) : found;
  if (field.kind === "boolean") return found === "true" ? true : found === "false" ? false : found;
  if (field.kind === "object") try { return JSON.parse(found); } catch { return found; }
  return found;
}

/** The sections of the form. `texts` has the text of each field that differs from its default; `changed` is called when one does. */
export class Fields {
  constructor(sections, texts, changed) {
    this.fields = sections.flatMap((section) => section.fields);
    this.controls = new Map(this.fields.map((field) => [field.name, this.control(field, texts.get(field.name) ?? textOf(field, field.default), changed)]));
    this.problems = new Map(this.fields.map((field) => [field.name, el("span", { class: "warn", id: `problem-${field.name}` })]));
    this.node = el("div", {}, sections.map((section) => this.section(section)));
  }

  control(field, text, changed) {
    const common = { id: `field-${field.name}`, "aria-describedby": `problem-${field.name} help-${field.name}`, autocomplete: "off" };
    if (field.kind === "boolean") return el("input", { ...common, type: "checkbox", checked: text === "true", onchange: changed });
    if (field.choices.length) {
      const known = field.choices.some(([value]) => String(value) === text);
      const choices = known ? field.choices : [...field.choices, [text, text]];
      return el("select", { ...common, onchange: changed }, choices.map(([value, label]) => el("option", { value, selected: String(value) === text }, label)));
    }
    if (field.kind === "array") {
      const paste = (event) => { // browsers insert a thousand lines in seconds
        event.preventDefault();
        box.setRangeText(event.clipboardData.getData("text/plain"), box.selectionStart, box.selectionEnd, "end");
        changed();
      };
      const box = el("textarea", { ...common, rows: "3", spellcheck: "false", oninput: changed, onpaste: paste });
      box.value = text.split(",").join("\n");
      return box;
    }
    const kind = { date: !text || DATE.test(text) ? "date" : "text" }[field.kind] || "text";
    const mode = { integer: "numeric", number: "decimal" }[field.kind];
    return el("input", { ...common, type: kind, inputmode: mode, value: text, maxlength: "500", spellcheck: "false", list: field.proposed.length ? `proposed-${field.name}` : null, oninput: changed });
  }

  section(section) {
    const fields = el("div", { class: "fields" }, section.fields.map((field) => this.row(field)));
    if (!OPEN.includes(section.name)) return el("fieldset", { class: "section" }, el("legend", {}, section.name), fields);
    return el("details", { open: section.fields.some((field) => this.differs(field)) }, el("summary", {}, section.name), fields);
  }

  row(field) {
    const control = this.controls.get(field.name), label = el("label", { for: control.id }, field.title);
    return el("div", { class: "field" },
      field.kind === "boolean" ? el("div", { class: "check" }, control, label) : [label, control],
      field.proposed.length ? el("datalist", { id: `proposed-${field.name}` }, field.proposed.map(([value, text]) => el("option", { value }, text))) : "",
      this.problems.get(field.name), el("span", { class: "soft", id: `help-${field.name}` }, field.help));
  }

  text(field) {
    const control = this.controls.get(field.name);
    if (field.kind === "boolean") return String(control.checked);
    if (control.validity.badInput) return "incomplete"; // a date that is being typed
    return field.kind === "array" ? valueOf(field, control.value).join(",") : control.value.trim();
  }

  differs(field) { return this.text(field) !== textOf(field, field.default); }

  /** The texts of the fields that differ from their defaults, for the address. */
  texts() {
    return this.fields.filter((field) => this.differs(field)).map((field) => [field.name, this.text(field)]);
  }

  /** The params that differ from the feed's defaults; an empty list is no list. */
  params() {
    return Object.fromEntries(this.texts().map(([name, text]) => {
      const value = valueOf(this.fields.find((field) => field.name === name), text);
      return [name, Array.isArray(value) && !value.length ? null : value];
    }));
  }

  /** Show problems beside their fields; return those of no single field. */
  report(problems) {
    for (const [name, place] of this.problems) {
      const own = problems.filter((one) => one.field === name).map((one) => one.text);
      place.textContent = own.join("; ");
      const control = this.controls.get(name);
      own.length ? control.setAttribute("aria-invalid", "true") : control.removeAttribute("aria-invalid");
      if (own.length) control.closest("details")?.setAttribute("open", "");
    }
    return problems.filter((one) => !this.problems.has(one.field)).map((one) => one.text);
  }
}

/** Show the params of a run as a list. */
export function listed(conf) {
  const entries = Object.entries(conf);
  if (!entries.length) return el("p", { class: "soft" }, "All params have the feed's defaults.");
  const list = el("dl");
  fill(list, entries.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value === null ? "empty" : Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value))]).flat());
  return list;
}
