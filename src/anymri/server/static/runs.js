// The form that runs a study with the sequences that are switched on, and how far the run is.

import { json } from "./api.js";
import { announce, byId, make, setOptions } from "./elements.js";
import { listed, text, timeLeft } from "./texts.js";

const WAITING = ["receiving", "queued", "inspecting"];

/** Name of a sequence inside a list, e.g. "T1c". */
export const shortName = (code) => ({ t1c: "T1c", mprage: "MP-RAGE", tmax: "Tmax" })[code] ?? code.toUpperCase().replaceAll("_", " ");

/** "T1 and FLAIR" of codes. */
export const subsetName = (codes) => listed(codes.map(shortName));

/** Codes that a run used, or was asked to use. */
export const subsetOf = (run, all) => (run.available.length ? run.available : (run.subset ?? all));

const same = (one, two) => one.length === two.length && one.every((code) => two.includes(code));

export class Runs {
  /** `models`: answer of GET /models; `sequences`: the list; `begun` is told of a run, `chosen` of one to show;
   * `shown` gives the ids of those that are shown. */
  constructor({ models, sequences, begun, chosen, shown, fail }) {
    Object.assign(this, { models, sequences, begun, chosen, shown, fail });
    setOptions(byId("model"), models.models.map((model) => [model.default ? "default" : model.name, model.default ? text("run.default", model) : model.name]));
    setOptions(byId("completion"), ["auto", "always", "never"].map((name) => [name, text(`completion.${name}`)]));
    byId("model").addEventListener("change", () => {
      this.sequences.show(this.study, this.takes());
      this.show(this.study);
    });
    byId("run").addEventListener("change", () => this.show(this.study));
    byId("run").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
  }

  /** The model that is chosen. */
  model() {
    return this.models.models.find((model) => (model.default ? "default" : model.name) === byId("model").value);
  }

  /** Codes that it takes. */
  takes() {
    return this.model()?.modalities ?? [];
  }

  /** Draw for a study. */
  show(study) {
    const other = study.id !== this.study?.id;
    this.study = study;
    if (other) this.#formats();
    byId("model-words").textContent = this.model()?.summary ?? "";
    const subset = this.sequences.subset();
    const names = subset.length ? subsetName(subset) : "";
    const known = this.#known(subset);
    const words = !known ? "run.go" : this.shown().includes(known.id) ? "run.shown" : "run.show";
    const active = study.runs.find((run) => ["queued", "running"].includes(run.status));
    byId("go").textContent = !subset.length ? text("run.nothing") : text(words, { names });
    byId("go").disabled = !subset.length || words === "run.shown" || WAITING.includes(study.status);
    this.#progress(study, active);
  }

  #formats() {
    const rows = this.models.formats.map((format) => {
      const off = format.from_dicom && !this.study.dicom;
      const input = make("input", { type: "checkbox", value: format.name, disabled: off || format.name === "nifti" });
      input.checked = format.name === "nifti" || (format.name === "dicom-seg" && !off);
      return make("label", { class: "choice" }, input, ` ${off ? text("run.from_dicom", format) : format.what}`);
    });
    byId("formats").replaceChildren(...rows);
  }

  #wanted() {
    const formats = [...byId("formats").querySelectorAll("input:checked")].map((input) => input.value);
    return { model: byId("model").value, subset: this.sequences.subset(), completion: byId("completion").value, formats };
  }

  /** A run that is done and was asked for in the same way. */
  #known(subset) {
    const wanted = this.#wanted();
    return this.study.runs.findLast((run) => run.status === "done" && run.model === wanted.model && run.completion === wanted.completion
      && wanted.formats.every((format) => run.formats.includes(format)) && same(subsetOf(run, []), subset));
  }

  async #go() {
    const wanted = this.#wanted();
    const known = this.#known(wanted.subset);
    if (known) {
      this.chosen(known.id);
      return;
    }
    byId("go").disabled = true;
    try {
      const answer = await json(`studies/${this.study.id}/runs`, "POST", wanted);
      announce(text("run.started", { names: subsetName(wanted.subset) }));
      this.begun(answer.run);
    } catch (error) {
      this.fail(error);
      byId("go").disabled = false;
    }
  }

  #progress(study, run) {
    const looking = WAITING.includes(study.status);
    byId("working").hidden = !run && !looking;
    if (!run && !looking) return;
    const names = run ? subsetName(subsetOf(run, this.sequences.all())) : "";
    const what = looking ? text(`study.${study.status}`) : text(run.status === "queued" ? "run.waiting" : "run.running", { names });
    const { progress, seconds_left: left } = run && !looking ? run : study;
    byId("working-words").textContent = `${what} – ${timeLeft(left)}`;
    // Nothing done yet is told as not knowing how much: the bar moves.
    if (progress > 0) byId("bar").value = progress;
    else byId("bar").removeAttribute("value");
  }
}
