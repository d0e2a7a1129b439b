/** The request of the page as a command or a program, to copy. */

import { html, save, useRef, useState } from "./view.js";

const inShell = (text) => `'${text.replace(/'/g, "'\\''")}'`;
// Between single quotes a text with double ones, such as a list of names, is easier to read.
const inJavaScript = (text) => (/"/.test(text) && !/['\\\n\r]/.test(text) ? `'${text}'` : JSON.stringify(text));
const inPython = (text) => inJavaScript(text).replace(/\u007f/g, "\\u007f");

const NAMES_FILE = "names.json";
// Linux starts no command with a longer argument than 128 KiB.
const MAX_ARGUMENT_BYTES = 100_000;
const isLong = ([, value]) => new Blob([value]).size > MAX_ARGUMENT_BYTES;

/**
 * The request in three languages.
 *
 * @param {{origin: string, file: string, fields: [string, string][], needsKey: boolean}} request What the page sends.
 */
export function snippetsOf({ origin, file, fields, needsKey }) {
  return { curl: curl(origin, file, fields, needsKey), Python: python(origin, file, fields, needsKey), JavaScript: javascript(origin, fields, needsKey) };
}

// --form-string takes its value as it is; -F would read what follows a semicolon as an option.
function curl(origin, file, fields, needsKey) {
  const parts = [`curl -s ${origin}/v1/classify`];
  if (needsKey) parts.push(`-H "Authorization: Bearer $AHSE_API_KEY"`);
  const isPlain = /^[\w .-]+$/.test(file);
  parts.push(`-F ${inShell(`file=@${isPlain ? file : `"${file.replace(/[\\"]/g, "\\$&")}"`}`)}`);
  parts.push(...fields.map(([name, value]) => (isLong([name, value]) ? `-F '${name}=<${NAMES_FILE}'` : `--form-string ${inShell(`${name}=${value}`)}`)));
  return parts.join(" \\\n  ");
}

function python(origin, file, fields, needsKey) {
  const sent = fields.map(([name, value]) => `    (${inPython(name)}, ${inPython(value)}),\n`).join("");
  const header = needsKey ? `    headers={"Authorization": "Bearer " + os.environ["AHSE_API_KEY"]},\n` : "";
  return `${needsKey ? "import os\n\n" : ""}import requests

fields = [
${sent}]
with open(${inPython(file)}, "rb") as clip:
    response = requests.post(
        ${inPython(`${origin}/v1/classify`)},
        files={"file": clip},
        data=fields,
${header ? `    ${header}` : ""}    )
answer = response.json()
if not response.ok:
    raise SystemExit(answer["detail"])
for one in answer["predictions"]:
    print(f'{one["score"]:.3f}  {one["label"]}')
`;
}

function javascript(origin, fields, needsKey) {
  const sent = fields.map(([name, value]) => `form.append(${inJavaScript(name)}, ${inJavaScript(value)});\n`).join("");
  const options = needsKey ? `{ method: "POST", body: form, headers: { Authorization: \`Bearer \${key}\` } }` : `{ method: "POST", body: form }`;
  return `// clip: a File or Blob, such as document.querySelector("input[type=file]").files[0]${needsKey ? "; key: an API key" : ""}
const form = new FormData();
form.append("file", clip);
${sent}const response = await fetch(${JSON.stringify(`${origin}/v1/classify`)}, ${options});
const answer = await response.json();
if (!response.ok) throw new Error(answer.detail);
console.table(answer.predictions.map(({ label, score }) => ({ label, score })));
`;
}

/** The three of them. Props: request, as snippetsOf takes it. */
export function Snippets({ request }) {
  const [language, setLanguage] = useState("curl");
  const [note, setNote] = useState("");
  const code = useRef(null);
  const texts = snippetsOf(request);
  const long = language === "curl" && request.fields.find(isLong); // the names: no other field can be long

  async function copy() {
    try {
      await navigator.clipboard.writeText(texts[language]);
      setNote("copied");
    } catch {
      getSelection().selectAllChildren(code.current); // browsers keep the clipboard from pages without HTTPS
      setNote("selected: copy it with Ctrl+C");
    }
  }

  return html`<details class="snippets"><summary>The same request from your own program</summary>
    <div class="row wrap" role="group" aria-label="Language">
      ${Object.keys(texts).map((one) => html`<button type="button" class="plain-button" aria-pressed=${one === language}
        onClick=${() => { setLanguage(one); setNote(""); }}>${one}</button>`)}
      <button type="button" class="plain-button" onClick=${copy}>Copy</button>
      <span class="small" role="status">${note}</span>
    </div>
    <pre ref=${code} tabindex="0" aria-label="The request in ${language}">${texts[language]}</pre>
    ${long && html`<div class="row wrap">
      <p class="small">So many names are too long for a command. Save them as ${NAMES_FILE} beside the clip first; curl reads them there.</p>
      <button type="button" class="plain-button" onClick=${() => save(long[1], NAMES_FILE, "application/json")}>Save the names</button>
    </div>`}
    <p class="small">All addresses, options and errors: <a href="docs">HTTP interface</a>.</p>
  </details>`;
}
