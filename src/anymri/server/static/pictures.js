// What can be shown of a study and its runs: images that were measured or filled in, and the layers over them.

import { hasText, text } from "./texts.js";

/** Name of a label for people. */
export const labelName = (label) => (hasText(`label.${label}`) ? text(`label.${label}`) : label.replaceAll("_", " "));

const measured = (study, code) => study.sequences.find((row) => row.modality === code && row.href);
const filled = (run, code) => run?.files.find((file) => file.kind === "completed" && file.modality === code);

/** Images to choose from: pairs of key and name. A key is a modality, one with a star where it is filled in, or a file. */
export function imageChoices(study, runs, names) {
  const choices = study.sequences.filter((row) => row.modality && row.href).map((row) => [row.modality, names[row.modality]]);
  for (const code of new Set(runs.flatMap((run) => run.completed))) {
    if (runs.some((run) => filled(run, code))) choices.push([`${code}*`, text("layers.filled", { name: names[code] })]);
  }
  const rest = study.sequences.filter((row) => !row.modality && row.href);
  return [...choices, ...rest.map((row) => [`file ${row.file}`, row.file])];
}

/** Image of one panel for a key: {href, code, name, made}; what is not there is stood in for. */
export function imageOf(study, run, key, names) {
  if (key.startsWith("file ")) {
    const row = study.sequences.find((one) => `file ${one.file}` === key);
    if (row?.href) return { href: row.href, code: null, name: row.file, words: row.file, made: false };
  }
  const code = key.replace("*", "");
  const made = filled(run, code);
  const given = measured(study, code);
  if (made && (key.endsWith("*") || !given)) {
    return { href: made.href, code, name: names[code], words: text("layers.filled", { name: names[code] }), made: true };
  }
  if (given) {
    const unused = run && !run.available.includes(code);
    const words = text(unused ? "layers.measured_unused" : "layers.measured", { name: names[code] });
    return { href: given.href, code, name: names[code], words, made: false };
  }
  const other = study.sequences.find((row) => row.href);
  if (!other) return null;
  const name = names[other.modality] ?? other.file;
  const words = names[code] ? text("layers.absent", { name: names[code], other: name }) : name;
  return { href: other.href, code: other.modality, name, words, made: false };
}

/** Layers over an image: see Viewer.show. */
export function layersOf(run, image, wanted) {
  const layers = [{ href: image.href, kind: "image", name: image.name, strength: 1 }];
  if (!run || run.status !== "done") return layers;
  const file = (kind, code = null) => run.files.find((one) => one.kind === kind && one.modality === code && /\.nii(\.gz)?$/.test(one.name));
  const outline = (!image.made && file("native_segmentation", image.code)) || file("segmentation");
  if (wanted.segmentation > 0 && outline) {
    const labelNames = Object.fromEntries(Object.keys(run.labels).map((label) => [label, labelName(label)]));
    layers.push({ href: outline.href, kind: "segmentation", name: text("layers.segmentation"), labels: run.labels, labelNames, strength: wanted.segmentation });
  }
  const unsure = file("uncertainty");
  if (wanted.uncertainty > 0 && unsure) {
    layers.push({ href: unsure.href, kind: "uncertainty", name: text("layers.uncertainty"), strength: wanted.uncertainty });
  }
  const error = image.made && file("completed_error", image.code);
  if (wanted.error > 0 && error) layers.push({ href: error.href, kind: "error", name: text("layers.error"), strength: wanted.error });
  return layers;
}

/** Whether a run has a file of a kind. */
export const hasKind = (run, kind) => run.files.some((file) => file.kind === kind);
