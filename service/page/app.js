/** The page: what is chosen, the request, its answer; and the way between its three views. */

import { About } from "./about.js";
import { Answer } from "./answer.js";
import { ClipChooser, clipOf } from "./clip.js";
import { comesIntoView, keepFocus } from "./focus.js";
import { LabelSets } from "./label_sets.js";
import { NameChooser } from "./names.js";
import { GONE, about, classify, key, labelSets, video } from "./service.js";
import { Snippets } from "./snippets.js";
import { Player, Timeline } from "./timeline.js";
import { Fault, Fragment, html, percent, render, useEffect, useMemo, useRef, useState } from "./view.js";

const VIEWS = { classify: "Classify a clip", "label-sets": "Label sets", about: "About the bundle" };
// Of longer lists only the best are answered: nobody reads ten thousand bars.
const MOST_RANKED = 500;
const LENGTHS = [["auto", "automatic"], ["2", "2 s"], ["5", "5 s"], ["10", "10 s"], ["30", "30 s"], ["", "none"]];

function App() {
  const [view, setView] = useState(viewOfAddress());
  const [service, setService] = useState(null);
  const [problem, setProblem] = useState(null);
  const [keyForm, setKeyForm] = useState(null); // {problem, isOffered} while a key is asked for
  const [bundle, setBundle] = useState("");
  const [labelSet, setLabelSet] = useState("");
  const heading = useRef(null);
  const reading = useRef(0); // of the label sets; an answer that a later one has overtaken is old

  async function load() {
    try {
      setService(await about());
      setProblem(null);
      setKeyForm(null);
    } catch (error) {
      setProblem(error);
    }
  }

  async function loadSets() {
    reading.current += 1;
    const turn = reading.current;
    try {
      const sets = await labelSets();
      if (turn === reading.current) setService((before) => ({ ...before, sets }));
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
  }

  function takeKey(text) {
    setKeyForm({ ...keyForm, problem: null });
    try {
      key.set(text);
      load();
    } catch (error) {
      setKeyForm({ ...keyForm, problem: error });
    }
  }

  useEffect(() => {
    // The page asks for several things at once, and all are refused for the same reason.
    key.whenRefused((refusal) => setKeyForm((before) => (before?.problem ? before : { problem: refusal })));
    const follow = () => {
      setView(viewOfAddress());
      heading.current?.focus();
    };
    addEventListener("hashchange", follow);
    load();
    return () => removeEventListener("hashchange", follow);
  }, []);

  useEffect(() => {
    if (service) loadSets(); // others may have made or deleted some
  }, [view]);

  const model = service && (service.models.find((one) => one.id === bundle) ?? service.models[0]);
  const use = (name) => {
    setLabelSet(name);
    location.hash = "classify";
  };
  const isShown = (name) => ({ hidden: view !== name });
  return html`
    <header data-home="key">
      <div class="row wrap">
        <p class="mark"><img src="page/icon.svg" alt="" width="28" height="28" /> AHSE</p>
        <nav aria-label="Views"><ul class="row wrap">
          ${Object.entries(VIEWS).map(([name, title]) => html`<li><a href=${`#${name}`} aria-current=${view === name ? "page" : undefined}>${title}</a></li>`)}
          <li><a href="docs">HTTP interface</a></li>
        </ul></nav>
        ${service?.models.length > 1 && html`<div class="row bundle"><label for="bundle">Bundle</label>
          <select id="bundle" value=${model.id} onChange=${(event) => setBundle(event.target.value)}>
            ${service.models.map((one) => html`<option>${one.id}</option>`)}</select></div>`}
        ${key.get() && !keyForm && html`<button type="button" class="link-button" onClick=${() => setKeyForm({ isOffered: true })}>Change the API key</button>`}
      </div>
    </header>
    <main data-home="title">
      <h1 id="title" ref=${heading} tabindex="-1">${view === "classify" ? "Which of these names fits this clip best?" : VIEWS[view]}</h1>
      ${keyForm && html`<${KeyForm} ...${keyForm} onKey=${takeKey} onClose=${() => setKeyForm(null)} />`}
      <${Fault} problem=${problem} retry=${load} />
      ${model && html`<${Fragment}>
        ${view !== "classify" && model.notice && html`<p class="note">${model.notice}</p>`}
        <div class="view" ...${isShown("classify")}><${Classify} service=${service} model=${model} labelSet=${labelSet} onLabelSet=${setLabelSet} onSetGone=${loadSets} /></div>
        <div class="view" data-home="open-set" ...${isShown("label-sets")}><${LabelSets} sets=${service.sets} onChanged=${loadSets} onUse=${use} /></div>
        <div class="panel" ...${isShown("about")}><${About} model=${model} info=${service.info} /></div>
      </${Fragment}>`}
      ${!service && !problem && html`<p role="status">Asking the service…</p>`}
    </main>`;
}

function viewOfAddress() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : "classify";
}

/**
 * Asks for the API key; it stays in this tab.
 *
 * Props: problem of the key that was given, if any; isOffered: the service takes the one it has; onKey(text), onClose().
 */
function KeyForm({ problem, isOffered, onKey, onClose }) {
  const [text, setText] = useState("");
  function submit(event) {
    event.preventDefault();
    onKey(text);
  }
  return html`<form class="panel field" onSubmit=${submit}>
    <label for="key">${isOffered ? "Another API key for this service" : "This service needs an API key"}</label>
    <div class="row"><input id="key" type="password" autocomplete="off" required value=${text} onInput=${(event) => setText(event.target.value)} aria-describedby="key-help" />
      <button type="submit">Use it</button>
      ${isOffered && html`<button type="button" class="plain-button" onClick=${onClose}>Close</button>`}</div>
    ${problem && html`<p class="fault" role="alert" key=${problem} ref=${comesIntoView}>${problem.detail}</p>`}
    <p class="small" id="key-help">Whoever runs the service makes keys with “ahse keys create”. It is kept in this tab until you close it.</p>
  </form>`;
}

/** The main job: clip and names in, answer out. */
function Classify({ service, model, labelSet, onLabelSet, onSetGone }) {
  const [clip, setClip] = useState(null);
  const [names, setNames] = useState([]);
  const [length, setLength] = useState("auto");
  const [work, setWork] = useState(null);
  const [problem, setProblem] = useState(null);
  const [answer, setAnswer] = useState(null); // {found, question}, since what is chosen may change
  const [now, setNow] = useState(0);
  const [status, setStatus] = useState("");
  const player = useRef(null);
  const shown = useRef(null);
  const examples = useExamples(model);
  // A recording, an example or an answer arrives renders after it was begun; these say what is current then.
  const request = useRef(null);
  const taken = useRef(null); // the clip
  const wanted = useRef(null); // the example that is being loaded
  const enterTyped = useRef(null); // NameChooser's

  useEffect(() => {
    if (labelSet && !service.sets.some((set) => set.name === labelSet)) onLabelSet("");
  }, [service.sets]);

  function choose(chosen) {
    if (taken.current) URL.revokeObjectURL(taken.current.url);
    taken.current = chosen;
    wanted.current = null;
    setStatus(request.current ? "Cancelled" : "");
    request.current?.cancel();
    request.current = null;
    setWork(null);
    setClip(chosen);
    setAnswer(null);
    setProblem(null);
    setNow(0);
  }

  async function chooseExample(example) {
    wanted.current = example;
    try {
      const content = await video(`page/examples/${example.file}`);
      if (wanted.current !== example) return; // another clip was chosen meanwhile
      onLabelSet("");
      setNames(example.labels);
      choose(clipOf(new File([content], example.file, { type: "video/mp4" })));
    } catch (error) {
      if (wanted.current !== example) return;
      error.again = () => chooseExample(example);
      setProblem(error);
    }
  }

  const chosen = useMemo(() => questionOf({ names, labelSet, length, model, service }), [names, labelSet, length, model, service]);

  async function start() {
    if (request.current) return;
    const asked = labelSet ? names : enterTyped.current();
    const missing = missingOf(asked);
    if (missing) {
      setStatus(missing);
      return;
    }
    setProblem(null);
    setAnswer(null);
    setStatus("Uploading");
    const form = new FormData();
    const question = questionOf({ names: asked, labelSet, length, model, service });
    for (const [name, value] of question.fields) form.append(name, value);
    form.append("file", clip.file, clip.name);
    const began = classify(form, (share) => {
      setWork((before) => before && { ...before, share });
      if (share === 1) setStatus("The service works on it");
    });
    request.current = began;
    setWork({ cancel: began.cancel, share: 0 });
    try {
      const found = await began.answer;
      if (request.current !== began) return; // it is of the clip before
      setAnswer({ found, question });
      setStatus(html`Done. <bdi>${found.predictions[0].label}</bdi>, ${percent(found.predictions[0].score)}`);
    } catch (error) {
      if (request.current !== began) return;
      setProblem(error);
      setStatus(error ? "" : "Cancelled");
      if (error?.code === GONE) onSetGone();
    }
    request.current = null;
    setWork(null);
  }

  useEffect(() => {
    // On a phone the answer is below what was filled in; beside many names it may be above.
    const top = answer ? shown.current.getBoundingClientRect().top : 0;
    if (top < 0 || top > innerHeight - 200) shown.current.scrollIntoView();
  }, [answer]);

  function seek(seconds) {
    setNow(seconds);
    if (player.current) player.current.currentTime = seconds;
  }

  /** What has to be done before names can be asked about; they are null while the page asks how they are meant. */
  function missingOf(asked) {
    if (!clip) return "Choose a clip first.";
    if (!asked) return "Say first whether what you typed is one name.";
    return labelSet || asked.length ? "" : "Give at least one name.";
  }

  const origin = new URL(".", location).href.replace(/\/$/, "");
  const notice = answer ? answer.found.bundle_notice : model.notice;
  const { fields } = answer ? answer.question : chosen;
  return html`${notice && html`<p class="note">${notice}</p>`}<div class="main-columns" data-home="classify">
    <div class="inputs">
      <section class="panel" aria-labelledby="clip-title"><h2 id="clip-title">1. A clip</h2>
        <${ClipChooser} clip=${clip} examples=${examples} onClip=${choose} onExample=${chooseExample} maxBytes=${service.info.limits.max_upload_bytes} /></section>
      <section class="panel" aria-labelledby="names-title"><h2 id="names-title">2. Names</h2>
        <${NameChooser} names=${names} labelSet=${labelSet} sets=${service.sets} onNames=${setNames} onLabelSet=${onLabelSet} enterTyped=${enterTyped} />
        <div class="row"><label for="length">Timeline in steps of</label>
          <select id="length" value=${length} onChange=${(event) => setLength(event.target.value)}>
            ${LENGTHS.map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select></div></section>
      <div class="row wrap">
        ${/* Not disabled: that would take the focus away, and the reason could not be asked for. */ ""}
        <button type="button" id="classify" class="go" aria-disabled=${Boolean(work)} onClick=${start}>Classify</button>
        ${work && html`<button type="button" class="plain-button" onClick=${work.cancel}>Cancel</button>`}
      </div>
      ${work && html`<${Progress} share=${work.share} />`}
      <p class="small" role="status">${status}</p>
    </div>
    <div class="results">
      <${Fault} problem=${problem} retry=${problem?.again ?? (clip ? start : null)} />
      ${clip && html`<${Player} clip=${clip} player=${player} onTime=${setNow} />`}
      ${answer ? html`<section class="panel" ref=${shown} aria-label="Answer"><h2>Answer</h2>
            <${Changes} asked=${answer.question} chosen=${chosen} />
            <${Answer} answer=${answer.found} isCut=${answer.found.predictions.length < answer.found.n_labels} /></section>
          ${answer.found.segments?.length > 1 && html`<section class="panel" aria-label="Over time"><h2>Over time</h2>
            <${Timeline} answer=${answer.found} now=${now} name=${clip.name} onSeek=${seek} /></section>`}`
        : !clip && html`<div class="empty"><p>The answer will be here: the names in order, how sure picture and sound are, each alone and both together,
            and what comes when.</p></div>`}
      ${(answer || !missingOf(names)) && html`<section class="panel"><${Snippets} request=${{ origin, file: clip.name, fields, needsKey: Boolean(key.get()) }} /></section>`}
    </div>
  </div>`;
}

/** What is asked: fields of the request besides the clip, and the parts in which another question would differ, by their names. */
function questionOf({ names, labelSet, length, model, service }) {
  const set = service.sets.find((one) => one.name === labelSet);
  const n = labelSet ? (set?.n_labels ?? 0) : names.length;
  const chosen = labelSet ? ["label_set", labelSet] : ["labels", JSON.stringify(names)];
  const options = [...(length ? [["segment_s", length]] : []), ...(n > MOST_RANKED ? [["top_k", String(MOST_RANKED)]] : [])];
  return {
    fields: [chosen, ...options, ...(model.default ? [] : [["bundle", model.id]])],
    parts: { names: `${chosen} ${set?.etag}`, bundle: model.id, "timeline steps": length },
  };
}

/** Says above an answer what of its question is no longer chosen. */
function Changes({ asked, chosen }) {
  const changed = Object.keys(asked.parts).filter((part) => asked.parts[part] !== chosen.parts[part]);
  if (!changed.length) return null;
  return html`<p class="note" role="status">This answer is for the ${changed.join(" and ")} before; classify again.</p>`;
}

/** Of the upload, then of the work, whose end nobody knows. */
function Progress({ share }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds((before) => before + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const value = share < 1 ? { value: share } : {};
  return html`<div class="field"><label for="progress">${share < 1 ? `Uploading, ${percent(share)}` : `The service works on it, ${seconds} s`}</label>
    <progress id="progress" max="1" ...${value}></progress></div>`;
}

/** Clips that come with the page and fit the bundle. */
function useExamples(model) {
  const [all, setAll] = useState([]);
  useEffect(() => {
    fetch("page/examples/examples.json")
      .then((response) => (response.ok ? response.json() : []))
      .catch(() => [])
      .then(setAll);
  }, []);
  return all.filter((one) => one.bundle === model.id);
}

const page = document.getElementById("page");
keepFocus(page);
render(html`<${App} />`, page);
