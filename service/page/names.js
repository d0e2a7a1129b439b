/** Step 2: the names to choose from, as chips or as a stored label set. */

import { comesIntoView } from "./focus.js";
import { count, html, lines, sameKey, useId, useState } from "./view.js";

const MOST_CHIPS = 200;

/** `names` and those of `added` that are new to them, as the service compares names. */
export function mergeNames(names, added) {
  const known = new Set(names.map(sameKey));
  const fresh = added.filter((name) => !known.has(sameKey(name)) && known.add(sameKey(name)));
  return [...names, ...fresh];
}

/**
 * The question whether one line with commas is one name or several; of more lines each is a name.
 *
 * @param {(names: string[]) => any} take Called with the names that are meant.
 * @returns {{enter: (typed: string[]) => any, question: any, drop: () => void}} `enter` takes lines, or asks and returns null;
 *   `drop` takes the question back, whose text was changed.
 */
export function useSplitting(take) {
  const [offer, setOffer] = useState(null);

  function answer(names) {
    setOffer(null);
    return take(names);
  }

  function enter(typed) {
    const parts = typed.length === 1 ? partsOf(typed[0]) : [];
    if (parts.length < 2) return answer(typed);
    setOffer({ name: typed[0], parts });
    return null;
  }

  const question = offer && html`<div class="note" role="alert" ref=${comesIntoView}>
    <p>Is this one name or ${offer.parts.length}?</p>
    <div class="row wrap">
      <button type="button" class="plain-button" onClick=${() => answer(offer.parts)}>Split into ${offer.parts.length} names</button>
      <button type="button" class="plain-button" onClick=${() => answer([offer.name])}>Keep as one name</button>
    </div>
  </div>`;
  return { enter, question, drop: () => setOffer(null) };
}

const partsOf = (name) => name.split(/[,;\t]/).map((part) => part.trim()).filter(Boolean);

/**
 * The chooser.
 *
 * Props: names, labelSet ("" for none), sets; onNames(names), onLabelSet(name); enterTyped, a ref: while names are typed
 * here, a function that adds what is typed but not entered and returns all names, or null when it has to ask about it.
 */
export function NameChooser({ names, labelSet, sets, onNames, onLabelSet, enterTyped }) {
  return html`
    ${sets.length > 0 && html`<div class="field">
      <label for="label-set">Choose from</label>
      <select id="label-set" value=${labelSet} onChange=${(event) => onLabelSet(event.target.value)}>
        <option value="">names typed here</option>
        ${sets.map((set) => html`<option value=${set.name}>${set.name} (${count(set.n_labels, "name")})</option>`)}
      </select>
    </div>`}
    ${labelSet
      ? html`<p class="small">All names of the label set “${labelSet}”. <a href="#label-sets">Look at it or change it</a></p>`
      : html`<${Chips} names=${names} onNames=${onNames} enterTyped=${enterTyped} />`}`;
}

/** Names as chips, and a field for more: Enter adds, a pasted list is split at its lines. */
function Chips({ names, onNames, enterTyped }) {
  const [text, setText] = useState("");
  const [note, setNote] = useState("");
  const splitting = useSplitting(add);
  const id = useId();

  function add(added) {
    const merged = mergeNames(names, added);
    const n = merged.length - names.length;
    setNote(n < added.length ? `${count(added.length - n, "name")} already in the list` : n > 1 ? `${count(n, "name")} added` : "");
    setText("");
    onNames(merged);
    return merged;
  }

  function submit() {
    const name = text.trim();
    return name ? splitting.enter([name]) : names;
  }
  enterTyped.current = submit;

  function onKey(event) {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "Backspace" && !text && names.length) {
      setNote(html`<bdi>${names.at(-1)}</bdi> removed`);
      onNames(names.slice(0, -1));
    }
  }

  function onPaste(event) {
    const pasted = lines(event.clipboardData.getData("text"));
    if (pasted.length < 2) return;
    event.preventDefault();
    splitting.enter(pasted);
  }

  function remove(name) {
    setNote(html`<bdi>${name}</bdi> removed`);
    onNames(names.filter((one) => one !== name));
  }

  function type(event) {
    setText(event.target.value);
    splitting.drop();
  }

  return html`<div class="field" data-home=${id}>
    <label for=${id}>Names to choose from</label>
    <${ChipList} names=${names} onRemove=${remove} />
    <div class="row">
      <input id=${id} type="text" dir="auto" autocomplete="off" value=${text} placeholder="dog barking" aria-describedby="${id}-help"
        onInput=${type} onKeyDown=${onKey} onPaste=${onPaste} />
      <button type="button" class="plain-button" onClick=${submit}>Add</button>
    </div>
    ${splitting.question}
    <p class="small" id="${id}-help">Any words will do, seen in a training or not. Enter adds a name; a list may be pasted, one name a line.
      ${names.length > 0 && html` <button type="button" class="link-button" onClick=${() => { setNote("all names removed"); onNames([]); }}>Remove all ${names.length}</button>`}</p>
    <p class="small" role="status">${note}</p>
  </div>`;
}

/** Chips with a button each; of a very long list the first, and how many more there are. */
export function ChipList({ names, onRemove, titleOf = () => undefined }) {
  if (!names.length) return null;
  const shown = names.slice(0, MOST_CHIPS);
  return html`<ul class="chips" tabindex="-1">
    ${shown.map((name) => html`<li key=${name} class="chip" title=${titleOf(name)}>
      <span><bdi>${name}</bdi></span><button type="button" aria-label="Remove ${name}" onClick=${() => onRemove(name)}>×</button>
    </li>`)}
    ${names.length > shown.length && html`<li class="small">and ${names.length - shown.length} more</li>`}
  </ul>`;
}
