/** Talks to the service: requests, an upload with progress, errors in its own words, the API key. */

const STORED = "ahse-key";
let kept = "";
try {
  kept = sessionStorage.getItem(STORED) ?? "";
} catch {
  // Storage is blocked: the key lives as long as the page.
}
let whenRefused = () => {};

/** The API key; it is forgotten when the tab is closed. */
export const key = {
  get: () => kept,
  /** Keep another one, or none; a Problem is thrown where no key looks like this. */
  set(value) {
    const text = value.trim();
    if (!/^[!-~]*$/.test(text)) throw new Problem(NO_KEY);
    kept = text;
    try {
      if (kept) sessionStorage.setItem(STORED, kept);
      else sessionStorage.removeItem(STORED);
    } catch {
      // As above.
    }
  },
  /** Call something whenever the service asks for a key: with the Problem of the one that was sent, else with null. */
  whenRefused(call) {
    whenRefused = call;
  },
};

/** An error as the page shows it (RFC 9457 where the service sent it). */
export class Problem extends Error {
  constructor({ status = 0, code, detail, request_id: requestId = "", retryAfter = 0 }) {
    super(detail);
    Object.assign(this, { status, code, detail, requestId, retryAfter });
  }
}

const NO_CONTENT = 204;
const LOST = {
  code: "connection_lost",
  detail: "The connection to the service was lost. Check that it still runs and that you are online, then try again.",
};

// The browser refuses these two: as with an answer of this status, trying again changes nothing.
const REFUSED = 400;
const NO_KEY = {
  status: REFUSED,
  code: "invalid_key",
  detail: "The API key contains spaces or characters that no key has; copy it again.",
};
const CHANGED = {
  status: REFUSED,
  code: "file_changed",
  detail: "The file was changed, moved or deleted after you chose it; choose it again.",
};

const UNEXPECTED = {
  code: "unexpected_answer",
  detail:
    "What answered is not this service, perhaps a page that asks you to sign in. " +
    "Open this page in another tab, sign in there if you are asked to, then try again here.",
};

/** Code of the Problem that a label set is no longer there. */
export const GONE = "unknown_label_set";

// What the service says of these is meant for programs.
const OWN_WORDS = {
  unauthenticated: "The service does not take this API key. It may be mistyped, expired or withdrawn: copy it again, or ask whoever runs the service for another one.",
  [GONE]: "There is no such label set any more; it was deleted meanwhile. Choose another one.",
};

const keyHeader = () => (kept ? { Authorization: `Bearer ${kept}` } : {});

function problemOf(status, text, retryAfter) {
  let sent = null;
  try {
    sent = JSON.parse(text);
  } catch {
    // Not from the service: a proxy in between.
  }
  const problem = sent?.detail
    ? new Problem({ ...sent, detail: OWN_WORDS[sent.code] ?? sent.detail, status, retryAfter: Number(retryAfter) || 0 })
    : new Problem({ status, code: `http_${status}`, detail: `Something in between answered with status ${status}.` });
  if (status === 401) whenRefused(kept ? problem : null);
  return problem;
}

/** The answer of the service. A proxy in between may send a page of its own, with a good status. */
function parsed(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem({ ...UNEXPECTED, status });
  }
}

/**
 * Ask for data.
 *
 * @param {string} method HTTP method.
 * @param {string} path Address without a leading slash.
 * @param {{body?: object, headers?: object}} options Body sent as JSON, and further headers.
 * @returns {Promise<any>} What was answered; null where nothing is.
 * @throws {Problem}
 */
export async function ask(method, path, { body, headers = {} } = {}) {
  const json = body && { "Content-Type": "application/json" };
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers: { ...keyHeader(), ...json, ...headers },
      body: body && JSON.stringify(body),
    });
    text = await response.text();
  } catch {
    throw new Problem(LOST);
  }
  if (!response.ok) throw problemOf(response.status, text, response.headers.get("Retry-After"));
  return response.status === NO_CONTENT ? null : parsed(text, response.status);
}

/**
 * Load a video that comes with the page.
 *
 * @param {string} path Address without a leading slash.
 * @returns {Promise<Blob>} Its content.
 * @throws {Problem}
 */
export async function video(path) {
  let response, content;
  try {
    response = await fetch(path);
    content = await response.blob();
  } catch {
    throw new Problem(LOST);
  }
  if (!response.ok) {
    throw problemOf(response.status, await content.text(), response.headers.get("Retry-After"));
  }
  if (!content.type.startsWith("video/")) throw new Problem({ ...UNEXPECTED, status: response.status });
  return content;
}

/** Why nothing came. A file that was changed since it was chosen can't be read, and is not sent. */
const faultWith = (file) => file.slice(0, 1).arrayBuffer().then(() => LOST, () => CHANGED);

/**
 * Classify a clip.
 *
 * @param {FormData} form The request, with the clip as `file`.
 * @param {(share: number) => void} onSent Share of the upload that is done; 1: the service works.
 * @returns {{answer: Promise<object>, cancel: () => void}} The promise rejects with null when cancelled.
 */
export function classify(form, onSent) {
  // Not fetch: browsers tell the progress of an upload only here.
  const request = new XMLHttpRequest();
  const loaded = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.upload.onload = () => onSent(1);
    request.onerror = async () => reject(new Problem(await faultWith(form.get("file"))));
    request.onabort = () => reject(null);
    request.onload = resolve;
  });
  // Not in onload: what is thrown there reaches nobody, and the promise would stay open for ever.
  const answer = loaded.then(() => {
    const { status, responseText } = request;
    if (status === 200) return parsed(responseText, status);
    throw problemOf(status, responseText, request.getResponseHeader("Retry-After"));
  });
  request.open("POST", "v1/classify");
  for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
  request.send(form);
  return { answer, cancel: () => request.abort() };
}

/** All label sets: name, n_labels, etag. */
export async function labelSets() {
  const found = [];
  let cursor = null;
  do {
    const page = await ask("GET", `v1/label-sets?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    found.push(...page.label_sets);
    cursor = page.next_cursor;
  } while (cursor);
  return found;
}

/** What the page shows of the service itself. */
export async function about() {
  const [info, models, sets] = await Promise.all([ask("GET", "v1/info"), ask("GET", "v1/models"), labelSets()]);
  return { info, models: models.data, sets };
}
