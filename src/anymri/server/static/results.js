// Results of one run, or of two beside each other: warnings first, pictures, volumes, trust, downloads.

import { blob, token } from "./api.js";
import { byId, make, setOptions } from "./elements.js";
import { hasKind, imageChoices, imageOf, labelName, layersOf } from "./pictures.js";
import { subsetName, subsetOf } from "./runs.js";
import { hasText, joined, size, text } from "./texts.js";
import { Viewer, canDraw, labelColours } from "./viewer.js";
import { volumeTable } from "./volumes.js";

const PLANES = ["all", "axial", "coronal", "sagittal", "render"];
//: Kinds of files that have a link of their own; the rest is in the list of all.
const FIRST = ["segmentation", "dicom_seg", "completed", "dicom_mr", "uncertainty", "cautious", "facts"];

export class Results {
  /** `names`: modality to name; `chosen` is told of the runs that are shown. */
  constructor({ names, chosen, fail }) {
    Object.assign(this, { names, chosen, fail });
    this.panels = [this.#panel(0), this.#panel(1)];
    setOptions(byId("planes"), PLANES.map((name) => [name, text(`layers.${name}`)]));
    for (const id of ["shown", "beside"]) {
      byId(id).addEventListener("change", () => this.chosen([byId("shown").value, byId("beside").value]));
    }
    for (const id of ["image", "segmentation", "uncertainty", "error"]) byId(id).addEventListener("change", () => this.#draw());
    for (const kind of ["segmentation", "uncertainty"]) {
      byId(`${kind}-strength`).addEventListener("input", () => this.#strength(kind));
    }
    byId("planes").addEventListener("change", () => this.#planes());
    byId("after").addEventListener("click", (event) => this.#download(event));
  }

  /** Begin with another study. */
  begin() {
    this.drawn = null;
    for (const panel of this.panels) panel.viewer?.forget();
    byId("image").replaceChildren();
  }

  /** Show runs of a study: ids of the first and of the one beside it, "" = none. */
  show(study, [first, second]) {
    const done = study.runs.filter((run) => run.status === "done");
    const runs = [first, second].map((id) => done.find((run) => run.id === id)).filter(Boolean);
    const words = JSON.stringify([study.id, study.sequences, done.map((run) => run.id), runs]);
    if (words === this.drawn) return;
    this.drawn = words;
    Object.assign(this, { study, runs });
    const many = new Set(done.map((run) => run.model)).size > 1;
    const option = (run) => [run.id, text(many ? "results.option_model" : "results.option", { names: this.#subset(run), model: run.model })];
    byId("choice").hidden = !done.length;
    setOptions(byId("shown"), done.toReversed().map(option), runs[0]?.id ?? "");
    setOptions(byId("beside"), [["", text("results.alone")], ...done.toReversed().filter((run) => run !== runs[0]).map(option)], runs[1]?.id ?? "");
    this.#articles();
    this.#volumes();
    this.#draw();
  }

  #subset(run) {
    return subsetName(subsetOf(run, []));
  }

  #panel(index) {
    const head = make("div", { class: "head" });
    const canvas = make("canvas", { tabindex: "0", role: "application", "aria-describedby": "keys", id: `canvas-${index}` });
    const box = make("div", { class: "pictures" }, canvas);
    const words = make("p", { class: "caption" });
    const place = make("p", { class: "place", id: `place-${index}` });
    const article = make("article", { class: "panel" }, head, box, make("div", { class: "below" }, words, place));
    return { head, canvas, box, words, place, article, viewer: null };
  }

  /** Heads of the panels, and what comes after the volumes. */
  #articles() {
    const count = Math.max(1, this.runs.length);
    byId("panels").className = byId("after").className = `panels of-${count}`;
    this.panels.slice(0, count).forEach((panel, index) => {
      panel.head.replaceChildren(...this.#head(this.runs[index]));
      if (!panel.article.isConnected) byId("panels").append(panel.article);
      panel.canvas.setAttribute("aria-label", text("layers.picture", { names: this.runs[index] ? this.#subset(this.runs[index]) : "" }));
    });
    if (count === 1) this.panels[1].article.remove();
    byId("after").replaceChildren(...this.runs.map((run) => this.#after(run)));
  }

  #head(run) {
    if (!run) return [make("p", { class: "quiet", text: text("results.none") })];
    const missing = run.missing.length ? text("results.missing", { names: joined(run.missing.map((code) => this.names[code] ?? code)) }) : text("results.complete");
    // An alarm says in its first line what is doubtful: it must not stand there twice.
    const warnings = run.warnings.filter((line) => !run.first_line.includes(line));
    return [
      make("h3", { text: text("results.with", { names: this.#subset(run) }) }),
      make("p", { class: "quiet", text: missing }),
      run.alarm ? make("p", { class: "banner", text: run.first_line }) : null,
      warnings.length ? make("div", { class: "warning" }, make("strong", { text: text("results.doubtful") }),
        make("ul", {}, ...warnings.map((line) => make("li", { text: line })))) : null,
      run.alarm ? null : make("p", { class: "first", text: run.first_line }),
    ].filter(Boolean);
  }

  #after(run) {
    const links = FIRST.flatMap((kind) => run.files.filter((file) => file.kind === kind).map((file) => {
      const key = `kind.${kind}`;
      return this.#link(file, hasText(key) ? text(key, { name: this.names[file.modality] ?? "" }) : file.name);
    }));
    return make("article", { class: "panel-after" },
      this.runs.length > 1 ? make("h2", { text: text("results.with", { names: this.#subset(run) }) }) : null,
      run.trust.length ? make("h3", { text: text("trust.title") }) : null,
      ...run.trust.map((line) => make("p", { text: line })),
      make("h3", { text: text("downloads.title") }),
      make("ul", { class: "downloads" },
        run.report ? make("li", {}, make("a", { href: run.report, target: "_blank", rel: "noopener", "data-file": "report.html", text: text("downloads.report") }),
          make("span", { class: "quiet", text: ` ${text("downloads.report_words")}` })) : null,
        ...links),
      make("details", {}, make("summary", { text: text("downloads.more", { count: run.files.length }) }),
        make("ul", { class: "downloads" }, ...run.files.map((file) => this.#link(file, file.name)))));
  }

  #link(file, words) {
    const name = file.name.split("/").pop();
    return make("li", {}, make("a", { href: file.href, download: name, "data-file": name, text: words }), make("span", { class: "quiet", text: ` ${size(file.bytes)}` }));
  }

  /** A link cannot send a token: fetch the file and hand it over. */
  async #download(event) {
    const link = event.target.closest("a[data-file]");
    if (!link || !token.get()) return;
    event.preventDefault();
    try {
      const address = URL.createObjectURL(await blob(link.getAttribute("href")));
      make("a", { href: address, download: link.dataset.file }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) {
      this.fail(error);
    }
  }

  #volumes() {
    const some = this.runs.some((run) => run.regions.length);
    byId("volumes").hidden = !some;
    if (some) byId("volume-table").replaceChildren(...volumeTable(this.runs, this.runs.map((run) => this.#subset(run))));
  }

  #wanted() {
    const value = (kind) => (byId(kind).checked ? Number(byId(`${kind}-strength`).value) : 0);
    return { segmentation: value("segmentation"), uncertainty: value("uncertainty"), error: byId("error").checked ? 0.7 : 0 };
  }

  /** Pictures of all panels, by what is chosen above them. */
  async #draw() {
    const choices = imageChoices(this.study, this.runs, this.names);
    setOptions(byId("image"), choices);
    const key = byId("image").value;
    byId("layers").hidden = byId("keys").hidden = !choices.length || !canDraw();
    this.#controls(key);
    const panels = this.panels.slice(0, Math.max(1, this.runs.length));
    await Promise.all(panels.map((panel, index) => this.#picture(panel, this.runs[index], key)));
    await this.#planes();
    const both = panels.length > 1 && panels.every((panel) => panel.viewer?.view);
    if (both) await panels[0].viewer.link(panels[1].viewer);
    else await Promise.all(this.panels.map((panel) => panel.viewer?.unlink()));
    byId("panels").toggleAttribute("data-linked", both);
  }

  async #picture(panel, run, key) {
    const image = canDraw() ? imageOf(this.study, run, key, this.names) : null;
    panel.box.hidden = !image;
    if (!image) {
      panel.words.textContent = text(canDraw() ? "layers.none" : "layers.no_webgl");
      return;
    }
    panel.words.className = image.made ? "caption made" : "caption";
    panel.words.textContent = text("layers.loading");
    panel.viewer ??= new Viewer(panel.box, panel.canvas, (words) => (panel.place.textContent = words));
    try {
      await panel.viewer.show(layersOf(run, image, this.#wanted()));
      panel.words.textContent = image.words;
    } catch (error) {
      this.fail(error);
    }
  }

  #controls(key) {
    const has = (kind) => this.runs.some((run) => hasKind(run, kind));
    for (const kind of ["segmentation", "uncertainty"]) {
      byId(kind).closest(".layer").hidden = !has(kind);
      byId(`${kind}-strength`).disabled = !byId(kind).checked;
    }
    byId("error-layer").hidden = !key.endsWith("*") || !has("completed_error");
    const labels = Object.assign({}, ...this.runs.map((run) => run.labels));
    const colours = labelColours(labels);
    const entries = byId("segmentation").checked ? Object.keys(labels).map((label) => entry(colours[label], labelName(label))) : [];
    if (byId("uncertainty").checked && has("uncertainty")) entries.push(make("span", { class: "entry" }, make("span", { class: "heat" }), text("legend.uncertainty")));
    byId("legend").replaceChildren(...entries);
    byId("legend").hidden = !entries.length;
  }

  #strength(kind) {
    for (const panel of this.panels.slice(0, Math.max(1, this.runs.length))) panel.viewer?.strength(kind, Number(byId(`${kind}-strength`).value));
  }

  async #planes() {
    await Promise.all(this.panels.map((panel) => panel.viewer?.planes(byId("planes").value)));
  }
}

function entry(colour, words) {
  const swatch = make("span", { class: "swatch" });
  swatch.style.setProperty("--colour", `rgb(${colour.join(" ")})`);
  return make("span", { class: "entry" }, swatch, words);
}
