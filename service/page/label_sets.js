/** Label sets: look at them, make them, change them. A change that someone else made meanwhile is told. */

import { takesFocus } from "./focus.js";
import { ChipList, mergeNames, useSplitting } from "./names.js";
import { GONE, Problem, ask } from "./service.js";
import { Fault, count, html, lines, quoted, sameKey, useEffect, useMemo, useRef, useState } from "./view.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const ifSame = (set) => ({ "If-Match": `"${set.etag}"` });
const contentOf = ({ labels, templates, guarantee }) => ({ labels, templates, guarantee });
const IF_NEW = { "If-None-Match": "*" };
const CHANGED = 412;
const TAKEN = 409;

/** Address of a set. What is no name could be the address of something else, as a slash would make it. */
function addressOf(name) {
  if (NAME.test(name)) return `v1/label-sets/${name}`;
  throw new Problem({
    code: "invalid_name",
    detail: `“${name}” is no name for a label set; use 1 to 100 letters, digits, dots, dashes and underscores, beginning with a letter or digit.`,
  });
}

/** Store a set under a name that is free. */
async function make(name, body) {
  try {
    return await ask("PUT", addressOf(name), { body, headers: IF_NEW });
  } catch (error) {
    if (error.status !== CHANGED) throw error;
    throw Object.assign(error, { status: TAKEN, detail: `There is a label set “${name}” already; choose another name.` });
  }
}

/**
 * The editor.
 *
 * Props: sets (summaries), onChanged() when the list has to be read again, onUse(name) to classify with a set.
 */
export function LabelSets({ sets, onChanged, onUse }) {
  const [open, setOpen] = useState(null);
  const [problem, setProblem] = useState(null);
  const [done, setDone] = useState("");

  function fail(error) {
    setProblem(error);
    if (error.code === GONE) onChanged();
  }

  /** Do one change, and open the set that it answers with, which is without its labels. Whether it was made. */
  async function change(work, said) {
    setDone("");
    let changed;
    try {
      changed = await work();
    } catch (error) {
      fail(error);
      return false;
    }
    onChanged();
    try {
      setOpen(changed && (await ask("GET", addressOf(changed.name))));
      setProblem(null);
    } catch (error) {
      setOpen(null); // what is shown is from before the change
      setProblem(error);
    }
    setDone(said(changed));
    return true;
  }

  async function load(name) {
    setDone("");
    try {
      setOpen(await ask("GET", addressOf(name)));
      setProblem(null);
    } catch (error) {
      if (error.code === GONE) setOpen((before) => (before?.name === name ? null : before));
      fail(error);
    }
  }

  const isStale = problem?.status === CHANGED && open !== null && problem.isOfOpen;
  return html`
    <p>A label set is a list of names that the service keeps. A request names it instead of sending all names.</p>
    <${Fault} problem=${problem}>
      ${isStale && html`<p>Someone else has changed “${open.name}” since you read it. Nothing of theirs was overwritten.</p>
        <button type="button" class="plain-button" onClick=${() => load(open.name)}>Read it again</button>`}
    </${Fault}>
    <p class="small" role="status">${done}</p>
    <div class="columns" data-home="all-sets">
      <section class="panel" aria-label="All label sets">
        <h2 id="all-sets" tabindex="-1">${sets.length ? count(sets.length, "label set") : "There is no label set yet"}</h2>
        <ul class="choices">
          ${sets.map((set) => html`<li key=${set.name}><button type="button" aria-pressed=${open?.name === set.name} onClick=${() => load(set.name)}>
            <span>${set.name}</span><span class="small">${count(set.n_labels, "name")}</span></button></li>`)}
        </ul>
        <${NewSet} onCreate=${(name, labels) => change(() => make(name, { labels }), () => `“${name}” was made`)} />
      </section>
      ${open && html`<${OpenSet} key=${open.name} set=${open} onUse=${onUse} change=${changeOf(change)} />`}
    </div>`;

  /** A change of the open set; a conflict about it can be solved by reading it again. */
  function changeOf(work) {
    return (call, said) =>
      work(async () => {
        try {
          return await call();
        } catch (error) {
          if (error instanceof Problem) error.isOfOpen = true;
          throw error;
        }
      }, said);
  }
}

/** A form for a name and names, one a line. */
function NewSet({ onCreate }) {
  const [name, setName] = useState("");
  const [text, setText] = useState("");

  const splitting = useSplitting(async (names) => {
    if (await onCreate(name.trim(), mergeNames([], names))) {
      setName("");
      setText("");
    }
  });

  return html`<form class="field" data-home="new-labels" onSubmit=${submitting(() => splitting.enter(lines(text)))}>
    <h2>Make a new one</h2>
    <label for="new-set">Name of the set</label>
    <input id="new-set" required autocomplete="off" value=${name} onInput=${(event) => setName(event.target.value)} aria-describedby="new-set-help" />
    <p class="small" id="new-set-help">Letters, digits, dots, dashes and underscores.</p>
    <label for="new-labels">Its names, one a line</label>
    <textarea id="new-labels" rows="4" dir="auto" value=${text} onInput=${typing(setText, splitting)}></textarea>
    ${splitting.question}
    <button type="submit" disabled=${!name.trim()}>Make the set</button>
  </form>`;
}

/** One set: its names, more names, a copy, its end. */
function OpenSet({ set, onUse, change }) {
  const [text, setText] = useState("");
  const [wanted, setWanted] = useState("");
  const [copyName, setCopyName] = useState("");
  const [isEnding, setIsEnding] = useState(false);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);

  const sought = sameKey(wanted);
  const isSought = sought !== "";
  const keys = useMemo(() => isSought && set.labels.map((label) => sameKey(label.name)), [set, isSought]);
  const names = set.labels.map((label) => label.name).filter((_, i) => !isSought || keys[i].includes(sought));
  const promptsOf = useMemo(() => new Map(set.labels.map((label) => [label.name, label.prompts])), [set]);

  const splitting = useSplitting(async (names) => {
    const labels = mergeNames([], names);
    const add = () => ask("POST", `${addressOf(set.name)}/labels`, { body: { labels }, headers: ifSame(set) });
    if (await change(add, (changed) => addedOf(changed.n_labels - set.n_labels, names.length))) setText("");
  });

  function remove(name) {
    // In an address, browsers read the names "." and ".." as steps: the set itself would be meant.
    const rest = { ...contentOf(set), labels: set.labels.filter((label) => label.name !== name) };
    const request = /^\.{1,2}$/.test(name)
      ? () => ask("PUT", addressOf(set.name), { body: rest, headers: ifSame(set) })
      : () => ask("DELETE", `${addressOf(set.name)}/labels/${encodeURIComponent(name)}`, { headers: ifSame(set) });
    return change(request, () => html`${quoted(name)} removed`);
  }

  function copy() {
    const name = copyName.trim();
    return change(() => make(name, contentOf(set)), () => `“${name}” is a copy of “${set.name}”`);
  }

  function end() {
    return change(() => ask("DELETE", addressOf(set.name), { headers: ifSame(set) }), () => `“${set.name}” was deleted`);
  }

  return html`<section class="panel" aria-labelledby="open-set">
    <div class="row wrap"><h2 id="open-set" ref=${heading} tabindex="-1">${set.name}</h2>
      <button type="button" class="plain-button" disabled=${!set.labels.length} onClick=${() => onUse(set.name)}>Classify with it</button></div>
    <p class="small">${count(set.n_labels, "name")}, last changed ${new Date(set.updated).toLocaleString()}
      ${set.templates && html`<br />Templates: ${set.templates.join(" · ")}`}
      ${set.guarantee && html`<br />Guarantee: ${set.guarantee}`}</p>
    ${set.labels.length > 30 && html`<div class="field"><label for="wanted">Find a name</label>
      <input id="wanted" type="search" dir="auto" value=${wanted} onInput=${(event) => setWanted(event.target.value)} /></div>`}
    <${ChipList} names=${names} onRemove=${remove} titleOf=${(name) => promptsOf.get(name).join("\n") || undefined} />
    <form class="field" data-home="more-labels" onSubmit=${submitting(() => splitting.enter(lines(text)))}>
      <label for="more-labels">More names, one a line</label>
      <textarea id="more-labels" rows="3" dir="auto" value=${text} onInput=${typing(setText, splitting)}></textarea>
      ${splitting.question}
      <button type="submit" class="plain-button" disabled=${!text.trim()}>Add to the set</button>
    </form>
    <form class="field" onSubmit=${submitting(copy)}>
      <label for="copy-name">Save a copy under another name</label>
      <div class="row"><input id="copy-name" autocomplete="off" value=${copyName} onInput=${(event) => setCopyName(event.target.value)} />
        <button type="submit" class="plain-button" disabled=${!copyName.trim()}>Save the copy</button></div>
    </form>
    <div class="field" data-home="end-set">${isEnding
      ? html`<div class="note" role="alertdialog" aria-label="Delete the set?" onKeyDown=${(event) => event.key === "Escape" && setIsEnding(false)}>
          <p>Delete “${set.name}” with its ${count(set.n_labels, "name")}? Requests that name it will fail.</p>
          <div class="row wrap">
            <button type="button" class="danger" onClick=${end}>Delete it</button>
            <button type="button" class="plain-button" ref=${takesFocus} onClick=${() => setIsEnding(false)}>Keep it</button>
          </div></div>`
      : html`<button type="button" class="link-button" id="end-set" onClick=${() => setIsEnding(true)}>Delete this set…</button>`}</div>
  </section>`;
}

/** What came of names that were sent to a set, some of which it may have had. */
function addedOf(nNew, nSent) {
  const known = nSent - nNew;
  return `${count(nNew, "name")} added${known ? `; ${count(known, "name")} ${known === 1 ? "was" : "were"} there already` : ""}`;
}

const submitting = (call) => (event) => {
  event.preventDefault();
  call();
};

/** A text that is changed while it is asked about is asked about again. */
const typing = (setText, splitting) => (event) => {
  setText(event.target.value);
  splitting.drop();
};
