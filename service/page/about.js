/** What the service says of its bundle: facts, figures, model card. */

import { ask } from "./service.js";
import { Fault, count, html, useEffect, useState } from "./view.js";

/** The bundle. Props: model, as /v1/models has it. */
export function About({ model, info }) {
  const [card, setCard] = useState(null);
  const [problem, setProblem] = useState(null);

  useEffect(() => {
    // An answer may come late, when another bundle is shown.
    let isShown = true;
    setCard(null);
    ask("GET", `v1/models/${encodeURIComponent(model.id)}`).then(
      (found) => {
        if (!isShown) return;
        setCard(found.card);
        setProblem(null);
      },
      (error) => isShown && setProblem(error),
    );
    return () => {
      isShown = false;
    };
  }, [model]);

  return html`
    <p>${model.description}</p>
    <dl class="facts">
      <dt>Bundle</dt><dd>${model.id} ${model.version}</dd>
      <dt>Made</dt><dd>${new Date(1000 * model.created).toLocaleDateString()}</dd>
      <dt>Runs on</dt><dd>${model.provider}</dd>
      <dt>Digest</dt><dd class="break">${model.digest}</dd>
      <dt>Trained on</dt><dd>${model.seen_classes.length ? count(model.seen_classes.length, "name") : "no names: all are ranked by similarity"}</dd>
      <dt>Service</dt><dd>AHSE ${info.version}</dd>
    </dl>
    ${model.metrics.length > 0 && html`<details><summary>${count(model.metrics.length, "measured figure")}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="Measured figures"><table>
      <thead><tr><th scope="col">figure</th><th scope="col">value</th><th scope="col">data</th></tr></thead>
      <tbody>${model.metrics.map((one) => html`<tr><td>${one.name}</td><td>${Number(one.value.toFixed(2))} ${one.unit === "percent" ? "%" : one.unit}</td><td>${one.data}</td></tr>`)}</tbody>
    </table></div></details>`}
    <${Fault} problem=${problem} />
    ${card && html`<article class="card">${blocksOf(card)}</article>`}`;
}

/** Markdown as far as model cards use it: headings, lists, tables, code, paragraphs. Never HTML. */
function blocksOf(text) {
  return text.trim().split(/\n{2,}/).map((block) => {
    const rows = block.split("\n");
    const heading = /^(#+)\s+(.*)$/.exec(rows[0]);
    if (heading) {
      const title = html`<h2>${spans(heading[2])}</h2>`;
      return rows.length > 1 ? [title, html`<p>${spans(rows.slice(1).join(" "))}</p>`] : title;
    }
    if (rows.every((row) => row.startsWith("|"))) return tableOf(rows);
    if (/^[-*] /.test(rows[0])) return html`<ul>${itemsOf(rows).map((item) => html`<li>${spans(item)}</li>`)}</ul>`;
    if (rows[0].startsWith("```") || rows.every((row) => row.startsWith("    "))) {
      return html`<pre tabindex="0" aria-label="Code">${block.replace(/^```.*\n?|\n?```$/g, "")}</pre>`;
    }
    return html`<p>${spans(rows.join(" "))}</p>`;
  });
}

/** Items of a list, whose lines may be continued. */
function itemsOf(rows) {
  const items = [];
  for (const row of rows) {
    if (/^[-*] /.test(row)) items.push(row.slice(2));
    else items.push(`${items.pop()} ${row.trim()}`);
  }
  return items;
}

function tableOf(rows) {
  const cells = rows.map((row) => row.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim()));
  const [head, , ...body] = cells;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table: ${head[0] || "of the model card"}"><table>
    <thead><tr>${head.map((cell) => (cell ? html`<th scope="col">${spans(cell)}</th>` : html`<td></td>`))}</tr></thead>
    <tbody>${body.map((row) => html`<tr>${row.map((cell) => html`<td>${spans(cell)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/** Strong words, code and links within a line; a link is shown as its text. */
function spans(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (part.startsWith("**")) return html`<strong>${part.slice(2, -2)}</strong>`;
    if (part.startsWith("`")) return html`<code>${part.slice(1, -1)}</code>`;
    return part.startsWith("[") && part.includes("](") ? part.slice(1, part.indexOf("](")) : part;
  });
}
