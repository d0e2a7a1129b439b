/** The library that draws the page, and small parts that several files use. */

import { Fragment, h, render } from "./vendor/preact/preact.js";
import htm from "./vendor/htm/htm.js";
import { comesIntoView } from "./focus.js";

export { Fragment, render };
export { useEffect, useId, useMemo, useRef, useState } from "./vendor/preact/hooks.js";
export const html = htm.bind(h);

/** A share of 1 as people write it; what is not quite all or nothing is not written as such. */
export function percent(share) {
  if (share > 0.999 && share < 1) return "> 99.9\u00a0%"; // a space that does not break
  if (share > 0 && share < 0.001) return "< 0.1\u00a0%";
  return `${(100 * share).toFixed(share > 0.1 ? 0 : 1)}\u00a0%`;
}

/** Seconds as 0:07.5, as a player shows them. */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = (tenths % 600) / 10;
  const text = rest < 10 ? `0${rest.toFixed(1)}` : rest.toFixed(1);
  return `${Math.floor(tenths / 600)}:${text}`.replace(/\.0$/, "");
}

/** Bytes with a unit. */
export function size(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/** `1 name`, `2 names`. */
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

/** Lines of a text without empty ones. */
export const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);

/** A name within a sentence: whichever way its own letters run, the words around stay in order. */
export const quoted = (name) => html`“<bdi>${name}</bdi>”`;

/** What makes two names the same for the service: form, case and spacing are ignored. */
export const sameKey = (name) => name.normalize("NFKC").toLowerCase().split(/\s+/).join(" ").trim();

/** Save a text as a file of the person. */
export function save(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const NO_VALID_KEY = 401;
const REFUSED_FOR_NOW = 429;

/**
 * An error: the service's own reason and remedy; what may pass can be tried again.
 *
 * That a key was refused stands in the form that asks for one, so nothing of it is left once there is another.
 */
export function Fault({ problem, retry, children }) {
  if (!problem || problem.status === NO_VALID_KEY) return null;
  // Below 400 nothing was refused: no answer came, or one that is not from the service.
  const mayPass = problem.status < 400 || problem.status >= REFUSED_FOR_NOW;
  // With a key of its own each problem is a new element, which is read out and comes into view.
  return html`<div class="fault" role="alert" key=${problem} ref=${comesIntoView}>
    <p>${problem.detail}</p>
    ${problem.retryAfter > 0 && html`<p>It can be tried again in ${count(problem.retryAfter, "second")}.</p>`}
    <p class="small">${problem.code}${problem.requestId !== "" && html` · request ${problem.requestId}`}</p>
    ${children}
    ${retry && mayPass && html`<button type="button" class="plain-button" onClick=${retry}>Try again</button>`}
  </div>`;
}
