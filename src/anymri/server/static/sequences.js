// The list of sequences: what each image was recognised as, its quality, the switch, and the chance to correct it.

import { json } from "./api.js";
import { announce, byId, make } from "./elements.js";
import { text } from "./texts.js";

//: Verdict to the sign in front of its word, so that colour is not all that tells it.
const SIGNS = { usable: "✓", doubtful: "?", unusable: "✕", unknown: "–" };

export class Sequences {
  /** `names`: modality to name; `changed` is told of switches, `relabelled` of a study whose labels were corrected. */
  constructor({ names, changed, relabelled, fail }) {
    Object.assign(this, { names, changed, relabelled, fail });
    this.edits = new Map();
    this.off = new Set();
    byId("apply").addEventListener("click", () => this.#apply());
    byId("undo").addEventListener("click", () => {
      this.edits.clear();
      this.drawn = null;
      this.show(this.study, this.takes);
      byId("sequences").querySelector("select")?.focus();
    });
  }

  /** Begin with another study: every sequence is on. */
  begin() {
    this.edits.clear();
    this.off.clear();
    this.drawn = null;
  }

  /** Codes that are switched on, in the order of the model. */
  subset() {
    const there = new Set(this.study.sequences.map((row) => row.modality).filter(Boolean));
    const order = this.takes.length ? this.takes : Object.keys(this.names);
    return order.filter((code) => there.has(code) && !this.off.has(code));
  }

  /** Codes of the study that the model takes. */
  all() {
    const there = new Set(this.study.sequences.map((row) => row.modality).filter(Boolean));
    return (this.takes.length ? this.takes : Object.keys(this.names)).filter((code) => there.has(code));
  }

  /** Switch on exactly these. */
  switchTo(subset) {
    this.off = new Set(this.all().filter((code) => !subset.includes(code)));
    for (const input of byId("sequences").querySelectorAll("input")) input.checked = !this.off.has(input.value);
  }

  /** Draw the sequences of a study; `takes`: codes of the model, empty = any. */
  show(study, takes) {
    this.study = study;
    this.takes = takes;
    const words = JSON.stringify([study.sequences, study.warnings, takes]);
    if (words === this.drawn) return;
    this.drawn = words;
    const warnings = [...study.warnings];
    if (study.ignored) warnings.push(text("sequences.ignored", { count: study.ignored }));
    byId("study-warnings").replaceChildren(...warnings.map((line) => make("li", { text: line })));
    byId("study-warnings").hidden = !warnings.length;
    byId("sequences").replaceChildren(...study.sequences.map((row, index) => this.#card(row, index)));
    this.#edited();
  }

  #card(row, index) {
    const label = this.edits.has(row.file) ? this.edits.get(row.file) : (row.modality ?? "");
    const select = make("select", { id: `label-${index}`, "aria-label": text("sequences.label", { file: row.file }) },
      make("option", { value: "", text: text("sequences.none") }),
      ...Object.entries(this.names).map(([code, name]) => make("option", { value: code, text: name })));
    select.value = label;
    select.addEventListener("change", () => this.#edit(row, select.value));
    const foreign = row.modality && this.takes.length && !this.takes.includes(row.modality);
    const name = this.names[row.modality] ?? row.file;
    const input = row.modality ? make("input", {
      type: "checkbox", role: "switch", class: "switch", value: row.modality, disabled: Boolean(foreign), "aria-label": text("sequences.use", { name }),
    }) : null;
    if (input) {
      input.checked = !this.off.has(row.modality) && !foreign;
      input.addEventListener("change", () => {
        if (input.checked) this.off.delete(row.modality);
        else this.off.add(row.modality);
        this.changed();
      });
    }
    const verdict = row.quality?.label ?? "unknown";
    return make("li", { class: "card" },
      make("div", { class: "card-row" }, input ?? make("span", { class: "no-switch" }), select,
        make("span", { class: `badge ${verdict}` }, make("span", { "aria-hidden": "true", text: `${SIGNS[verdict]} ` }), text(`quality.${verdict}`))),
      make("p", { class: "file", text: row.file }),
      row.quality?.words ? make("p", { class: "quiet", text: row.quality.words }) : null,
      foreign ? make("p", { class: "quiet", text: text("sequences.other_model") }) : null,
      this.#doubt(row, select),
      ...row.warnings.map((line) => make("p", { class: "warning", text: line })));
  }

  /** What the image looks like, where it is not used, or the server warns of it: looks alone mistake T1 and T1c. */
  #doubt(row, select) {
    if (!row.recognised || row.recognised === row.modality || (row.modality && !row.warnings.length)) return null;
    const name = this.names[row.recognised] ?? row.recognised;
    return make("p", { class: "warning" }, `${text("sequences.looks", { name })} `,
      make("button", {
        type: "button", class: "plain small", text: text("sequences.take", { name }),
        onclick: () => {
          select.value = row.recognised;
          this.#edit(row, row.recognised);
          select.focus();
        },
      }));
  }

  #edit(row, code) {
    if (code === (row.modality ?? "")) this.edits.delete(row.file);
    else this.edits.set(row.file, code);
    this.#edited();
  }

  #edited() {
    byId("relabel").hidden = !this.edits.size;
  }

  async #apply() {
    const codes = this.study.sequences.map((row) => (this.edits.has(row.file) ? this.edits.get(row.file) : row.modality)).filter(Boolean);
    const twice = codes.find((code, index) => codes.indexOf(code) !== index);
    if (twice) {
      this.fail({ message: text("sequences.twice", { name: this.names[twice] }) });
      return;
    }
    const sequences = Object.fromEntries([...this.edits].map(([file, code]) => [file, code || null]));
    try {
      const study = await json(`studies/${this.study.id}/sequences`, "PATCH", { sequences });
      this.begin();
      announce(text("sequences.applied"));
      this.relabelled(study);
    } catch (error) {
      this.fail(error);
    }
  }
}
