/** The timeline of an answer as a file: SubRip, WebVTT, CSV, as the service writes it (api/timeline.py). */

/** The nearest whole number, of a half the even one. */
const whole = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** A moment: 00:00:07,500 for SubRip, with a dot for WebVTT. */
function moment(seconds, mark) {
  const ms = whole(seconds * 1000);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const rest = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}${mark}${rest}`;
}

const timesOf = ({ start_s, end_s }, mark) => `${moment(start_s, mark)} --> ${moment(end_s, mark)}`;

const named = (answer) => answer.segments.filter((segment) => segment.predictions.length > 0);
const said = ({ predictions: [best] }) => `${best.label} (${whole(100 * best.score)}%)`;

// Players read tags and overrides in SubRip, which has no way to write these signs otherwise.
const NO_MARKUP = { "<": "‹", ">": "›", "{": "(", "}": ")" };
const plain = (text) => text.replace(/[<>{}]/g, (sign) => NO_MARKUP[sign]);

/** SubRip: numbered blocks. */
export const srt = (answer) =>
  named(answer)
    .map((one, i) => `${i + 1}\n${timesOf(one, ",")}\n${plain(said(one))}\n`)
    .join("\n");

// `<` and `&` would begin markup, `-->` a time.
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** WebVTT: what must be known of the bundle, then the cues. */
export function vtt(answer) {
  const about = `${answer.bundle} ${answer.bundle_version}. ${answer.bundle_notice ?? ""}`;
  const blocks = named(answer).map((one) => `${timesOf(one, ".")}\n${escaped(said(one))}\n`);
  return ["WEBVTT\n", `NOTE ${escaped(about).trim()}\n`, ...blocks].join("\n");
}

/** A text that no spreadsheet takes for a formula. Signs of double width count too, which some read like plain ones. */
const asCell = (text) => (/^[=+\-@]/.test(text.slice(0, 1).normalize("NFKC")) ? `'${text}` : text);

/** A cell of a CSV file. */
function cell(value) {
  const text = typeof value === "string" ? asCell(value) : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/** CSV (RFC 4180): a row for each segment, also for one without picture and sound, whose label is empty. */
export function csv(answer) {
  const rows = answer.segments.map(({ start_s, end_s, predictions: [best], unknown }) => [start_s, end_s, best?.label, best?.score, unknown]);
  return [["start_s", "end_s", "label", "score", "unknown"], ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}
