/** The ranked answer: in a sentence, and as bars for both tracks together and for each alone. */

import { count, html, percent, quoted, useState } from "./view.js";

const SHOWN = 5;
// A track tells two names apart when it gives one of them this much more than the other.
const CLEAR = 0.2;
const LIKELY_UNKNOWN = 0.5;

const best = (predictions, track) => predictions.reduce((a, b) => (b[track].score > a[track].score ? b : a));

/** Which track decides, in words. */
export function decidedBy(answer) {
  const { predictions, tracks } = answer;
  const [first, second] = predictions;
  if (!tracks.visual.used) return `Only the sound was used (picture: ${tracks.visual.detail}).`;
  if (!tracks.audio.used) return `Only the picture was used (sound: ${tracks.audio.detail}).`;
  if (!first?.visual || !first.audio || !second) return "";
  const picture = best(predictions, "visual");
  const sound = best(predictions, "audio");
  const pictureAgrees = picture.label === first.label;
  const soundAgrees = sound.label === first.label;
  const rivalBy = (track) => best(predictions.slice(1), track);
  const margin = (track) => first[track].score - rivalBy(track)[track].score;
  const unsure = (track) => html`can't tell ${quoted(first.label)} from ${quoted(rivalBy(track).label)}.`;
  if (pictureAgrees && soundAgrees) {
    const isPictureClear = margin("visual") >= CLEAR;
    const isSoundClear = margin("audio") >= CLEAR;
    if (isSoundClear && !isPictureClear) return html`The sound decides this; the picture alone ${unsure("visual")}`;
    if (isPictureClear && !isSoundClear) return html`The picture decides this; the sound alone ${unsure("audio")}`;
    return isPictureClear ? "Picture and sound agree." : "Picture and sound agree, but neither is sure.";
  }
  if (soundAgrees) return html`The sound decides this; the picture alone says ${quoted(picture.label)}.`;
  if (pictureAgrees) return html`The picture decides this; the sound alone says ${quoted(sound.label)}.`;
  return html`Both together decide this; the picture alone says ${quoted(picture.label)}, the sound alone ${quoted(sound.label)}.`;
}

/** Whether any name fits, in words. */
export function unknownInWords(unknown) {
  if (unknown === null) return "Whether none of these names fits, this bundle can't tell.";
  return `It is ${percent(unknown)} likely that none of these names fits.`;
}

/** The answer. Props: answer, whether the names were cut to the best `top_k`. */
export function Answer({ answer, isCut }) {
  const { predictions, tracks } = answer;
  const first = predictions[0];
  const isUnknown = answer.unknown !== null && answer.unknown >= LIKELY_UNKNOWN;
  const both = tracks.visual.used && tracks.audio.used;
  return html`<div class="answer">
    <p class="best">${isUnknown && html`<span class="perhaps">Perhaps none of these; the nearest is </span>`}
      <strong><bdi>${first.label}</bdi></strong> <span class="best-share">${percent(first.score)}</span></p>
    <p class="decided">${decidedBy(answer)} ${unknownInWords(answer.unknown)}</p>
    <${Bars} title=${both ? "Picture and sound together" : "All names"} track="both" of=${(one) => one.score} predictions=${predictions} />
    ${both && html`<div class="columns">
      <${Bars} title="Picture alone" track="visual" of=${(one) => one.visual.score} predictions=${predictions} />
      <${Bars} title="Sound alone" track="audio" of=${(one) => one.audio.score} predictions=${predictions} />
    </div>`}
    ${isCut && html`<p class="small">The best ${predictions.length} of ${count(answer.n_labels, "name")}.</p>`}
    ${answer.warnings.map((warning) => html`<p class="note">${warning}</p>`)}
    <p class="small">Picture: ${tracks.visual.detail}. Sound: ${tracks.audio.detail}.
      Bundle ${answer.bundle} ${answer.bundle_version}, ${Math.round(answer.timings_ms.total)} ms.</p>
    <details><summary>The whole answer as JSON</summary>
      <pre tabindex="0" aria-label="The answer as JSON">${JSON.stringify(answer, null, 1)}</pre></details>
  </div>`;
}

/** One ranked list. Scores of a list are shares of one, so the bars can be compared. */
function Bars({ title, track, of, predictions }) {
  const [isLong, setIsLong] = useState(false);
  const ranked = [...predictions].sort((a, b) => of(b) - of(a));
  const shown = isLong ? ranked : ranked.slice(0, SHOWN);
  return html`<section class="bars ${track}">
    <h3>${title}</h3>
    <ol>
      ${shown.map((one) => html`<li key=${one.label}>
        <span class="bar-name"><bdi>${one.label}</bdi>${one.seen && html` <span class="tag" title="the bundle's head was trained on this name">trained</span>`}</span>
        <span class="bar-share">${percent(of(one))}</span>
        <span class="bar" aria-hidden="true"><span style=${{ width: `${100 * of(one)}%` }}></span></span>
      </li>`)}
    </ol>
    ${ranked.length > SHOWN && html`<button type="button" class="link-button" aria-expanded=${isLong} onClick=${() => setIsLong(!isLong)}>
      ${isLong ? "Show fewer" : `Show all ${ranked.length}`}</button>`}
  </section>`;
}
