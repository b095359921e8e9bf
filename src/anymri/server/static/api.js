// Requests to the server: docs/reference/http-api.md.

const TOKEN = "anymri-token";
//: Images kept in memory, so that going back and forth loads nothing anew.
const KEPT = 24;
const images = new Map();

/** What the server refused, with its line. */
export class Failure extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
};

function headers(more = {}) {
  const known = token.get();
  return known ? { ...more, Authorization: `Bearer ${known}` } : more;
}

/** Address of a path below the page. */
const address = (path) => new URL(path, document.baseURI.replace(/[#?].*$/, "")).href;

async function failure(answer) {
  let words = "";
  try {
    words = (await answer.json()).detail;
  } catch {
    // not JSON: a proxy in between
  }
  return new Failure(answer.status, words);
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers: headers(options.headers), cache: "no-store" });
  } catch {
    throw new Failure(0, "");
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

/** JSON answer to a request; `body` is sent as JSON. */
export async function json(path, method = "GET", body = undefined) {
  const options = body === undefined ? { method } : { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await ask(path, options);
  return answer.status === 204 ? null : answer.json();
}

/** Bytes of a file. */
export async function bytes(href) {
  let image = images.get(href);
  if (!image) {
    image = ask(href).then((answer) => answer.arrayBuffer());
    images.set(href, image);
    image.catch(() => images.delete(href));
    while (images.size > KEPT) images.delete(images.keys().next().value);
  }
  return image;
}

/** A file as an object, for downloads that need the token. */
export const blob = async (href) => (await ask(href)).blob();

/** Send a study; `progress` is told the share that was sent. */
export function upload(entries, progress) {
  const form = new FormData();
  form.append("run", "false");
  for (const { file, path } of entries) form.append("files", file, path);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("studies"));
    request.responseType = "json";
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Failure(0, "")));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request.response);
      else reject(new Failure(request.status, request.response?.detail ?? ""));
    });
    request.send(form);
  });
}
