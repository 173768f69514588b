// The instances that are alive: one Scheduler in one process each.
import { html, useEffect } from "../vendor/preact.js";
import { get, useLive } from "../api.js";
import { Empty, Failure, Loading, Moment } from "../widgets.js";
import { plural } from "../format.js";

export function Instances() {
  useEffect(() => {
    document.title = "Instances · Scheduler";
  }, []);
  const { data, error, reload } = useLive((signal) => get("api/instances", {}, signal), "instances", { concerns: () => false, everyMs: 5_000 });
  return html`<div class="head"><h1>Instances</h1><p class="muted">One scheduler in one process each${data ? ` · ${plural(data.items.length, "instance")}` : ""}</p></div>
    ${data?.partial ? html`<p class="remark">${data.partial}</p>` : null}
    ${error && !data ? html`<${Failure} error=${error} again=${reload} />` : !data ? html`<${Loading} />` : html`<${List} items=${data.items} />`}`;
}

function List({ items }) {
  if (!items.length) return html`<${Empty} title="No instance is alive">Start the application; it appears here with its first heartbeat.<//>`;
  return html`<div class="panel"><table class="cards">
    <caption class="visually-hidden">Instances that are alive</caption>
    <thead><tr><th scope="col">Process</th><th scope="col">Instance</th><th scope="col" class="right">Tasks</th><th scope="col">Since</th><th scope="col">Last heard</th><th scope="col">Protocol</th></tr></thead>
    <tbody>${items.map((each) => html`<tr key=${each.id} data-row tabindex="-1">
      <td data-label="Process"><strong class="num">${each.process || "unknown"}</strong>${each.answers ? html` <span class="chip">answers here</span>` : null}</td>
      <td data-label="Instance"><code>${each.id}</code></td>
      <td data-label="Tasks" class="right num">${each.tasks ?? "–"}</td>
      <td data-label="Since">${each.since ? html`<${Moment} at=${each.since} /> <span class="muted">(<${Moment} at=${each.since} kind="relative" />)</span>` : "–"}</td>
      <td data-label="Last heard"><${Moment} at=${each.heard_at} kind="past" /></td>
      <td data-label="Protocol" class="num">${each.version.join(".") || "–"}</td></tr>`)}</tbody></table></div>
    ${items.length === 1 ? html`<p class="muted hint">With a store (<code>Scheduler("sqlite:///…")</code> or a server) all processes that share it are listed here.</p>` : null}`;
}
