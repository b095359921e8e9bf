// Texts of the page: everything people read is in texts.en.json, so that it can be translated.

let texts = {};

/** Load the texts and write them into the page's own elements. */
export async function loadTexts() {
  const answer = await fetch(new URL("texts.en.json", import.meta.url));
  texts = await answer.json();
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
}

/** Text of a key with {values} filled in; a key that has no text is shown as it is. */
export function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** Whether a key has a text. */
export const hasText = (key) => key in texts;

/** "T1, T1c and T2"; of a single name "T1 alone". */
export function listed(names) {
  return names.length === 1 ? text("alone", { name: names[0] }) : joined(names);
}

/** "T1, T1c and T2"; of a single name "T1". */
export function joined(names) {
  if (names.length === 1) return names[0];
  return names.slice(0, -1).join(text("list.sep")) + text("and") + names.at(-1);
}

/** Size of a file as people write it. */
export function size(bytes) {
  if (bytes < 1e6) return text("bytes.kb", { number: Math.max(1, Math.round(bytes / 1e3)) });
  return text("bytes.mb", { number: (bytes / 1e6).toFixed(1) });
}

/** Date and time of seconds since 1970. */
export function when(seconds) {
  return new Date(seconds * 1000).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
}

/** Time left, in words. */
export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return text("time.unknown");
  if (seconds < 90) return text("time.seconds", { number: Math.ceil(seconds) });
  return text("time.minutes", { number: Math.ceil(seconds / 60) });
}
