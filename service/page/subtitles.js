/** The timeline as a file: SubRip, WebVTT, CSV. */

/** A moment: 00:00:07,500 for SubRip, with a dot for WebVTT. */
function moment(seconds, mark) {
  const ms = Math.round(seconds * 1000);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const rest = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}${mark}${rest}`;
}

const named = (segments) => segments.filter((segment) => segment.predictions.length > 0);
const said = (segment) => `${segment.predictions[0].label} (${Math.round(100 * segment.predictions[0].score)} %)`;

// Players read tags and overrides in SubRip, which has no way to write these signs otherwise.
const NO_MARKUP = { "<": "‹", ">": "›", "{": "(", "}": ")" };
const plain = (text) => text.replace(/[<>{}]/g, (sign) => NO_MARKUP[sign]);

/** SubRip: numbered blocks. */
export const srt = (segments) =>
  named(segments)
    .map((one, i) => {
      const times = `${moment(one.start_s, ",")} --> ${moment(one.end_s, ",")}`;
      return `${i + 1}\n${times}\n${plain(said(one))}\n`;
    })
    .join("\n");

/** WebVTT; `<` and `&` would begin markup there, `-->` a time. */
export const vtt = (segments) =>
  `WEBVTT\n\n${named(segments)
    .map((one) => {
      const text = said(one).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
      return `${moment(one.start_s, ".")} --> ${moment(one.end_s, ".")}\n${text}\n`;
    })
    .join("\n")}`;

/**
 * A text that no spreadsheet takes for a formula, as the service writes it (api/timeline.py). Signs of double width
 * count too, which some spreadsheets read like plain ones.
 */
const asCell = (text) => (/^[=+\-@]/.test(text.slice(0, 1).normalize("NFKC")) ? `'${text}` : text);

/** A cell of a CSV file. */
function cell(value) {
  const text = typeof value === "string" ? asCell(value) : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/** CSV (RFC 4180): one row for each segment and name. */
export function csv(segments) {
  const rows = [["start_s", "end_s", "rank", "label", "score", "visual_score", "audio_score", "unknown"]];
  for (const one of named(segments)) {
    for (const name of one.predictions) {
      rows.push([one.start_s, one.end_s, name.rank, name.label, name.score, name.visual?.score, name.audio?.score, one.unknown]);
    }
  }
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}
