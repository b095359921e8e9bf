// The table of volumes of one run, or of two with their difference.

import { make } from "./elements.js";
import { text } from "./texts.js";

const number = (value) => value.toFixed(1);
const known = (region) => region && !region.unknown && region.volume_ml !== null;

/** Rows of the table; `names`: what each run rests on. */
export function volumeTable(runs, names) {
  return runs.length > 1 ? compared(runs, names) : alone(runs[0]);
}

const head = (...columns) => make("thead", {}, make("tr", {}, ...columns.map(([words, kind]) => make("th", { scope: "col", class: kind, text: words }))));

function alone(run) {
  const rows = run.regions.map((region) => make("tr", {},
    make("th", { scope: "row", text: region.name }),
    make("td", { class: "number", text: known(region) ? number(region.volume_ml) : text("volumes.unknown") }),
    make("td", { class: "number", text: known(region) && region.uncertain_ml !== null ? number(region.uncertain_ml) : "–" }),
    make("td", { class: "number", text: interval(region) }),
    make("td", { class: region.unknown || region.words.startsWith("low") ? "words low" : "words", text: region.words })));
  return [
    head([text("volumes.region")], [text("volumes.volume"), "number"], [text("volumes.uncertain"), "number"], [text("volumes.dice"), "number"], [text("volumes.trust")]),
    make("tbody", {}, ...rows),
  ];
}

function compared(runs, names) {
  const codes = [...new Set(runs.flatMap((run) => run.regions.map((region) => region.region)))];
  const rows = codes.map((code) => {
    const both = runs.map((run) => run.regions.find((region) => region.region === code));
    const difference = both.every(known) ? both[1].volume_ml - both[0].volume_ml : null;
    return make("tr", {},
      make("th", { scope: "row", text: both.find(Boolean).name }),
      ...both.flatMap((region) => [
        make("td", { class: "number", text: known(region) ? number(region.volume_ml) : text("volumes.unknown") }),
        make("td", { class: "number", text: region ? interval(region) : "–" }),
      ]),
      make("td", { class: "number", text: difference === null ? "–" : `${difference < 0 ? "−" : "+"}${number(Math.abs(difference))}` }));
  });
  const groups = make("tr", {}, make("td"), ...names.map((name) => make("th", { scope: "colgroup", colspan: "2", class: "group", text: name })), make("td"));
  const each = names.flatMap(() => [[text("volumes.volume"), "number"], [text("volumes.dice"), "number"]]);
  const columns = head([text("volumes.region")], ...each, [text("volumes.difference"), "number"]);
  columns.prepend(groups);
  return [make("caption", { class: "unseen", text: text("volumes.caption") }), columns, make("tbody", {}, ...rows)];
}

const interval = (region) => (region.dice ? text("volumes.interval", { low: region.dice.low.toFixed(2), high: region.dice.high.toFixed(2) }) : "–");
