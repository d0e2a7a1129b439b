/** The clip's player, and beneath it the best name of each segment, in step with it. */

import { clock, html, percent, save, useEffect, useRef, useState } from "./view.js";
import { csv, srt, vtt } from "./subtitles.js";

const N_HUES = 6;

/** The player. Props: clip, player (a ref to the element), onTime(seconds). */
export function Player({ clip, player, onTime }) {
  const [isPlayable, setIsPlayable] = useState(true);
  useEffect(() => setIsPlayable(true), [clip]);
  const label = `The clip ${clip.name}`;
  if (clip.kind === "image") return html`<img class="player" src=${clip.url} alt=${label} />`;
  if (!isPlayable) {
    return html`<p class="note">The browser can't play this kind of file; the service may still be able to read it.</p>`;
  }
  const tag = clip.kind === "audio" ? "audio" : "video";
  return html`<${tag} class="player" ref=${player} src=${clip.url} controls playsinline preload="auto" aria-label=${label}
    onTimeUpdate=${(event) => onTime(event.target.currentTime)} onSeeking=${(event) => onTime(event.target.currentTime)}
    onError=${() => setIsPlayable(false)}></${tag}>`;
}

/** The timeline. Props: answer, now (seconds), name of the clip, onSeek(seconds). */
export function Timeline({ answer, now, name, onSeek }) {
  const { segments } = answer;
  const hues = huesOf(segments);
  const current = segments.findLastIndex((one) => one.start_s <= now + 1e-3);
  const list = useRef(null);
  const stem = name.replace(/\.[^.]*$/, "") || "clip";

  useEffect(() => keepInView(list.current, list.current?.children[current]), [current]);

  const saveAs = (make, suffix, type) => () => save(make(answer), `${stem}.${suffix}`, type);
  return html`<section class="timeline" aria-label="Timeline">
    <div class="strip" aria-hidden="true">
      ${segments.map((one, i) => html`<span class=${`piece ${hues.get(bestOf(one)) ?? "none"} ${i === current ? "current" : ""}`}
        style=${{ flexGrow: Math.max(0.01, one.end_s - one.start_s) }} title=${`${clock(one.start_s)} ${isolated(bestOf(one) ?? "nothing to rank")}`}
        onClick=${() => onSeek(one.start_s)}></span>`)}
    </div>
    <ol class="segments" ref=${list}>
      ${segments.map((one, i) => html`<li key=${one.start_s}>
        <button type="button" aria-current=${i === current ? "time" : undefined} onClick=${() => onSeek(one.start_s)}>
          <span class="time">${clock(one.start_s)}–${clock(one.end_s)}</span>
          <span class=${`dot ${hues.get(bestOf(one)) ?? "none"}`} aria-hidden="true"></span>
          <span class="segment-name">${saidOf(one)}</span>
          <span class="bar-share">${one.predictions.length ? percent(one.predictions[0].score) : ""}</span>
        </button>
      </li>`)}
    </ol>
    <div class="row wrap">
      <span class="small">Save the timeline as</span>
      <button type="button" class="plain-button" onClick=${saveAs(srt, "srt", "application/x-subrip")}>SRT</button>
      <button type="button" class="plain-button" onClick=${saveAs(vtt, "vtt", "text/vtt")}>WebVTT</button>
      <button type="button" class="plain-button" onClick=${saveAs(csv, "csv", "text/csv")}>CSV</button>
    </div>
  </section>`;
}

// As <bdi> does where there can be elements.
const isolated = (name) => `\u2068${name}\u2069`;

const bestOf = (segment) => segment.predictions[0]?.label;

function saidOf(segment) {
  if (!segment.predictions.length) return "neither picture nor sound";
  const name = html`<bdi>${bestOf(segment)}</bdi>`;
  return segment.unknown !== null && segment.unknown >= 0.5 ? html`perhaps none of these (${name})` : name;
}

/** A colour for each name, in the order in which they come. */
function huesOf(segments) {
  const names = [...new Set(segments.map(bestOf).filter(Boolean))];
  return new Map(names.map((name, i) => [name, `hue-${i % N_HUES}`]));
}

/** Scroll the list alone, never the page. */
function keepInView(list, item) {
  if (!item || list.scrollHeight <= list.clientHeight) return;
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
}
