// The dialogs: pause, resume all, cancel, token and help. The browser keeps the focus inside and closes them with Escape.
import { html, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { dialog, link, may, shortcuts, useCell } from "./state.js";
import { setToken } from "./api.js";
import { cancel, mayOperate, pause, pauseAll, resumeAll } from "./actions.js";
import { plural } from "./format.js";

const close = () => dialog.set(null);

const LENGTHS = [["", "until it is resumed"], ["900", "15 minutes"], ["3600", "1 hour"], ["28800", "8 hours"], ["86400", "1 day"], ["604800", "1 week"]];

/** Keys and what they do; true: only for those who may act. */
export const KEYS = [
  ["/", "search the tasks"], ["j  k", "next, previous row"], ["Enter", "open the row"], ["r", "run the task now", true],
  ["p", "pause or resume the task", true], ["c", "cancel the run in progress", true], ["1 – 4", "overview, tasks, instances, events"],
  ["← →", "on the timeline: the run before, after"], ["↑ ↓", "on the timeline: another task"],
  ["+ −", "on the timeline: zoom"], ["End", "on the timeline: follow the present"], ["Enter", "on the timeline: explain"],
  ["Escape", "close a dialog or an explanation"], ["?", "this help"],
];

function Modal({ label, onClose = close, children }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    const shown = element.current;
    shown.showModal();
    return () => {
      shown.close(); // While it is open, nothing else can have the focus.
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${onClose}
    onClick=${(event) => event.target === element.current && onClose()}>
    <div class="dialog-body"><h2 id="dialog-title">${label}</h2>${children}</div></dialog>`;
}

/** Of one task, or of all. */
function Pause({ task, scheduler }) {
  const [reason, setReason] = useState("");
  const [length, setLength] = useState("");
  const [isBusy, setBusy] = useState(false);
  const number = scheduler && plural(scheduler.controlled_here, "task");
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    const for_s = length ? Number(length) : null;
    if (await (task ? pause(task, reason.trim(), for_s) : pauseAll(reason.trim(), for_s))) close();
    else setBusy(false);
  };
  return html`<${Modal} label=${task ? `Pause ${task.name}` : "Pause all tasks"}><form onSubmit=${submit}>
    ${task ? null : html`<p><strong>This pauses ${number}</strong>: the local tasks of ${scheduler.process}, and all cluster tasks.</p>
      ${scheduler.tasks > scheduler.controlled_here ? html`<p class="muted">${plural(scheduler.tasks - scheduler.controlled_here, "local task")} of other instances ${scheduler.tasks - scheduler.controlled_here === 1 ? "goes" : "go"} on.</p>` : null}`}
    <p class="muted">No new run starts until the pause ends, on any instance that shares the task. A run in progress goes on.</p>
    <label>Reason, for whoever wonders why ${task ? "it does" : "they do"} not run
      <input name="reason" required maxlength="1000" pattern=".*\\S.*" autocomplete="off" autofocus value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>
    <label>For how long
      <select name="length" value=${length} onChange=${(event) => setLength(event.target.value)}>
        ${LENGTHS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select></label>
    <div class="buttons end"><button type="button" onClick=${close}>Back</button><button class=${task ? "primary" : "danger"} disabled=${isBusy}>Pause${task ? "" : ` ${number}`}</button></div>
  </form><//>`;
}

function ResumeAll({ scheduler }) {
  const [isBusy, setBusy] = useState(false);
  const number = plural(scheduler.paused, "task");
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    if (await resumeAll()) close();
    else setBusy(false);
  };
  return html`<${Modal} label="Resume all tasks"><form onSubmit=${submit}>
    <p><strong>This ends the pauses of ${number}</strong>, no matter who made them.</p>
    <p class="muted">It does not end suspensions, which the code of the application makes. The option missed= of each task decides which of its missed ticks run.</p>
    <div class="buttons end"><button type="button" onClick=${close}>Back</button><button class="primary" autofocus disabled=${isBusy}>Resume ${number}</button></div>
  </form><//>`;
}

function Cancel({ task }) {
  const [reason, setReason] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    if (await cancel(task, reason.trim())) close();
  };
  return html`<${Modal} label=${`Cancel the run of ${task.name}`}><form onSubmit=${submit}>
    <p class="muted">The run in progress is asked to end. The next tick runs as planned.</p>
    <label>Reason, kept in the history
      <input name="reason" required maxlength="1000" pattern=".*\\S.*" autocomplete="off" autofocus value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>
    <div class="buttons end"><button type="button" onClick=${close}>Back</button><button class="danger">Cancel the run</button></div>
  </form><//>`;
}

export function Token({ detail }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (text.trim()) setToken(text.trim());
  };
  return html`<div class="gate"><form onSubmit=${submit} class="dialog-body">
    <h1>This scheduler asks for a token</h1>
    ${detail ? html`<p class="error-text" role="alert">${detail}</p>` : null}
    <p class="muted">It is the one that the application gives to <code>admin(token=…)</code> or <code>read_token=</code>. This tab keeps it until it is closed.</p>
    <label>Token<input name="token" type="password" required autocomplete="off" autofocus value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <div class="buttons end"><button class="primary">Open</button></div></form></div>`;
}

export const Denied = ({ detail }) => html`<div class="gate"><div class="dialog-body"><h1>No access</h1><p>${detail}</p>
  <div class="buttons end"><button class="primary" type="button" onClick=${() => location.reload()}>Try again</button></div></div></div>`;

function Help() {
  const value = useCell(shortcuts);
  useCell(may);
  return html`<${Modal} label="Keyboard"><dl class="keys">
    ${KEYS.filter(([, , acts]) => !acts || mayOperate()).map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${value === "on"} onChange=${(event) => shortcuts.set(event.target.checked ? "on" : "off")} /> Single letters are shortcuts</label>
    <div class="buttons end"><button type="button" class="primary" autofocus onClick=${close}>Close</button></div><//>`;
}

/** Those about all tasks say the numbers of now, not those of when they were opened. */
export function Dialogs({ scheduler }) {
  const open = useCell(dialog);
  if (!open || link.value.state === "token") return null;
  if (open.kind === "pause" || open.kind === "pause all") return html`<${Pause} task=${open.task} scheduler=${scheduler} />`;
  if (open.kind === "resume all") return html`<${ResumeAll} scheduler=${scheduler} />`;
  if (open.kind === "cancel") return html`<${Cancel} task=${open.task} />`;
  return html`<${Help} />`;
}
