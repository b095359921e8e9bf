// Making and finding elements. Texts always become text nodes: nothing that came from a file is ever HTML.

/** Element of the page by its id. */
export const byId = (id) => document.getElementById(id);

/** New element: properties by name ("class", "text", "on" + event, attributes), then children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Put options into a select: pairs of value and text; what was chosen stays chosen where it still can. */
export function setOptions(select, pairs, chosen = select.value) {
  const before = [...select.options].map((option) => `${option.value}\n${option.textContent}`).join("\n\n");
  const after = pairs.map(([value, words]) => `${value}\n${words}`).join("\n\n");
  if (before !== after) select.replaceChildren(...pairs.map(([value, words]) => make("option", { value, text: words })));
  select.value = pairs.some(([value]) => value === chosen) ? chosen : (pairs[0]?.[0] ?? "");
}

/** Tell screen readers what has happened. */
export function announce(words) {
  byId("status").textContent = words;
}
