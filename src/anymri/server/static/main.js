// Start of the page: which study is open, what is asked of the server and when.

import { Failure, json, token, upload } from "./api.js";
import { chosenFiles, droppedFiles } from "./drop.js";
import { announce, byId, make } from "./elements.js";
import { Results } from "./results.js";
import { Runs, subsetName, subsetOf } from "./runs.js";
import { Sequences } from "./sequences.js";
import { loadTexts, size, text, when } from "./texts.js";

//: How often a study is asked for while something is under way, and after a failure, in milliseconds.
const OFTEN_MS = 700;
const SELDOM_MS = 4000;
const ACTIVE = ["receiving", "queued", "inspecting", "running"];

let names = {};
let sequences, runs, results;
let study = null;
let shown = ["", ""];
let timer = null;

// ------------------------------------------------------------------------------------------------ failures

/** Show one line of what went wrong; "" takes it away. */
function fail(error) {
  const words = error.status === 0 ? text("error.network") : error.message || text("error.status", { status: error.status });
  byId("failure").textContent = words;
  byId("failure").hidden = false;
}

function clearFailure() {
  byId("failure").hidden = true;
  byId("failure").textContent = "";
}

/** Do something that asks the server; where it wants a token, ask for one and do it again. */
async function withToken(action) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 401) throw error;
      if (token.get()) fail(error);
      await askToken();
    }
  }
}

function askToken() {
  const dialog = byId("token-dialog");
  byId("token").value = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    if (byId("token").value) token.set(byId("token").value.trim());
    resolve();
  }, { once: true }));
}

// ------------------------------------------------------------------------------------------------ start

async function showStart() {
  study = null;
  clearTimeout(timer);
  document.title = "anymri";
  byId("title").textContent = text("start.title");
  byId("start").hidden = false;
  byId("main").className = "start";
  byId("study").hidden = byId("other").hidden = true;
  byId("upload").hidden = true;
  const { studies } = await withToken(() => json("studies"));
  byId("earlier").hidden = !studies.length;
  byId("studies").replaceChildren(...studies.map((one) => make("li", {},
    make("a", { href: `#study=${one.id}`, text: when(one.created) }),
    ` ${one.sequences.map((row) => names[row.modality]).filter(Boolean).join(text("list.sep"))} `,
    make("span", { class: "quiet", text: text(`study.${one.status}`) }))));
}

async function send(entries) {
  clearFailure();
  if (!entries.length) {
    fail({ message: text("start.nothing") });
    return;
  }
  const bytes = entries.reduce((sum, { file }) => sum + file.size, 0);
  byId("upload-words").textContent = text(entries.length === 1 ? "start.sending_one" : "start.sending", { count: entries.length, size: size(bytes) });
  byId("upload-bar").value = 0;
  byId("upload").hidden = false;
  try {
    const answer = await withToken(() => upload(entries, (share) => (byId("upload-bar").value = share)));
    announce(text("start.sent"));
    location.hash = `study=${answer.id}`;
  } catch (error) {
    fail(error);
  } finally {
    byId("upload").hidden = true;
  }
}

function listenForFiles() {
  for (const kind of ["files", "folder"]) {
    byId(`choose-${kind}`).addEventListener("click", () => byId(kind).click());
    byId(kind).addEventListener("change", () => {
      const entries = chosenFiles(byId(kind));
      byId(kind).value = "";
      send(entries);
    });
  }
  const drop = byId("drop");
  // A drop beside the field would make the browser leave the page for the file.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!byId("start").hidden) send(await droppedFiles(event.dataTransfer));
  });
}

// ------------------------------------------------------------------------------------------------ one study

const place = () => new URLSearchParams(location.hash.slice(1));

async function open(id) {
  clearFailure();
  study = null;
  shown = [place().get("run") ?? "", place().get("with") ?? ""];
  sequences.begin();
  results.begin();
  byId("start").hidden = true;
  byId("main").className = "";
  byId("other").hidden = false;
  await poll(id);
  byId("main").focus();
}

/** Ask for the study, draw it, and come again while something is under way. */
async function poll(id) {
  clearTimeout(timer);
  let pause = SELDOM_MS;
  try {
    const found = await withToken(() => json(`studies/${id}`));
    if (place().get("study") !== id) return;
    if (!byId("failure").hidden && byId("failure").textContent === text("error.network")) clearFailure();
    draw(found);
    if (!ACTIVE.includes(found.status)) return;
    pause = OFTEN_MS;
  } catch (error) {
    if (error.status === 404) {
      fail(new Failure(404, text("study.gone")));
      location.hash = "";
      return;
    }
    fail(error);
    if (!(error instanceof Failure)) throw error;
  }
  timer = setTimeout(() => poll(id), pause);
}

function draw(found) {
  const before = study;
  study = found;
  document.title = `${text(`study.${study.status}`)} – anymri`;
  byId("title").textContent = text("study.title", { when: when(study.created) });
  byId("study").hidden = false;
  byId("expires").textContent = text("keep.until", { when: when(study.expires) });
  sequences.show(study, runs.takes());
  if (before) tellFinished(before);
  else firstRun();
  runs.show(study);
  results.show(study, shown);
  if (study.status === "failed" && study.error && !study.runs.length) fail({ message: study.error });
}

/** Show the newest run that is done, unless the address names one. */
function firstRun() {
  const done = study.runs.filter((run) => run.status === "done");
  if (!done.some((run) => run.id === shown[0])) shown = [done.at(-1)?.id ?? "", ""];
  const run = done.find((one) => one.id === shown[0]);
  if (run) sequences.switchTo(subsetOf(run, sequences.all()));
}

/** Say which runs have come to their end, and show the newest of them. */
function tellFinished(before) {
  for (const run of study.runs) {
    const old = before.runs.find((one) => one.id === run.id);
    if (!old || old.status === run.status) continue;
    const words = { names: subsetName(subsetOf(run, sequences.all())), error: run.error };
    if (run.status === "done") {
      announce(text("run.done", words));
      // What was shown stays on the left, so that the page tells at once what the switched-off sequence changes.
      choose(shown[0] ? [shown[0], run.id] : [run.id, ""]);
    } else if (run.status === "failed") {
      fail({ message: text("run.failed", words) });
    }
  }
}

/** Show these runs, and write them into the address. */
function choose(ids) {
  shown = ids[0] === ids[1] ? [ids[0], ""] : ids;
  const parts = { study: study.id, run: shown[0], with: shown[1] };
  history.replaceState(null, "", `#${new URLSearchParams(Object.entries(parts).filter(([, value]) => value))}`);
  results.show(study, shown);
  runs.show(study);
}

function listenForRemoval() {
  const dialog = byId("remove-dialog");
  byId("remove").addEventListener("click", () => {
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      await json(`studies/${study.id}`, "DELETE");
      announce(text("keep.removed"));
      location.hash = "";
    } catch (error) {
      fail(error);
    }
  });
}

// ------------------------------------------------------------------------------------------------ begin

async function route() {
  const id = place().get("study");
  if (id === study?.id && id) return;
  await (id ? open(id) : showStart()).catch(fail);
}

async function begin() {
  await loadTexts();
  listenForFiles();
  listenForRemoval();
  byId("title").textContent = text("start.title");
  const models = await withToken(() => json("models"));
  const limits = await withToken(() => json("limits"));
  names = models.modalities;
  byId("kept").textContent = text("start.kept", { hours: Math.round(limits.keep_s / 3600) });
  sequences = new Sequences({ names, fail, changed: () => runs.show(study), relabelled: (found) => poll(found.id) });
  runs = new Runs({ models, sequences, fail, begun: () => poll(study.id), chosen: (id) => choose(shown[1] && shown[0] !== id ? [shown[0], id] : [id, ""]), shown: () => shown });
  results = new Results({
    names, fail, chosen: (ids) => {
      const run = study.runs.find((one) => one.id === ids[0]);
      if (run && ids[0] !== shown[0]) sequences.switchTo(subsetOf(run, sequences.all()));
      choose(ids);
    },
  });
  byId("other").addEventListener("click", () => (location.hash = ""));
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    location.hash = "";
  });
  addEventListener("hashchange", route);
  if (limits.demo && !location.hash) history.replaceState(null, "", `#study=${limits.demo}`);
  await route();
}

begin().catch(fail);
