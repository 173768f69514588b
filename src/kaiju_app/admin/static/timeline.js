// The timeline: runs, skips and holds of all tasks or of one, with zoom, pan, a live edge, and the keyboard.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { useLive } from "./api.js";
import { now as currentTime, theme, useCell, useNow, zone as zoneCell } from "./state.js";
import { go, hrefOf } from "./router.js";
import { iso, minute, ms, short } from "./format.js";
import { AXIS, band, bar, colours, draw, dropped, hit, skip, thingsOf } from "./timeline-draw.js";
import { inWords, loadWindow, merged, severalInWords, shapesIn, summary } from "./timeline-data.js";
import { Failure, Loading, Moment } from "./widgets.js";

const SPANS = [["300000", "5 min"], ["1800000", "30 min"], ["3600000", "1 h"], ["21600000", "6 h"], ["86400000", "1 day"], ["604800000", "7 days"]];
const LEAST_SPAN = 10_000;
const MOST_SPAN = 31 * 86_400_000;
const AHEAD = 0.12; // Of a live window is the future.
const MOST_ROWS = 40;
const narrow = matchMedia("(max-width: 760px)");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function startOf(parameters) {
  const [from, to] = [ms(parameters.get("from")), ms(parameters.get("to"))];
  if (from && to && to > from) return { end: to, span: to - from };
  const at = ms(parameters.get("at"));
  const span = Number(parameters.get("span")) || 1_800_000;
  return { end: at && at < currentTime() - span ? at + span / 2 : null, span };
}

/** The window that is shown: {end: null} follows the present. */
function useWindow(parameters, view, id) {
  const [shown, set] = useState(() => startOf(parameters));
  const timer = useRef(0);
  const move = (next) => {
    const span = Math.min(MOST_SPAN, Math.max(LEAST_SPAN, next.span));
    set({ end: next.end, span });
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      const rest = Object.fromEntries([...new URLSearchParams(location.hash.split("?")[1] || "")].filter(([name]) => !["from", "to", "span"].includes(name)));
      const place = next.end === null ? { span: Math.round(span) } : { from: iso(next.end - span), to: iso(next.end) };
      go(hrefOf(view, id, { ...rest, ...place }), { replace: true });
    }, 300);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return [shown, move];
}

function useSize() {
  const element = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setWidth(Math.floor(element.current.clientWidth));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

function useDark() {
  const [isDark, set] = useState(prefersDark.matches);
  useEffect(() => {
    const changed = () => set(prefersDark.matches);
    prefersDark.addEventListener("change", changed);
    return () => prefersDark.removeEventListener("change", changed);
  }, []);
  return isDark;
}

export function Timeline({ task = null, parameters, view }) {
  const [shown, move] = useWindow(parameters, view, task?.id || "");
  const now = useNow();
  const zone = useCell(zoneCell);
  const [most, setMost] = useState(MOST_ROWS);
  const isLive = shown.end === null;
  const to = isLive ? now + shown.span * AHEAD : shown.end;
  const from = to - shown.span;
  // What is loaded is wider than what is shown, so that panning a little shows no hole.
  const grid = shown.span / 2;
  const [low, high] = [Math.floor(from / grid) * grid - grid, Math.ceil(to / grid) * grid + grid];
  const concerns = (kind, data) => (!task || data.task_id === task.id) && (isLive || high > now - shown.span);
  const key = `${task?.id} ${low} ${high} ${most}`;
  const last = useRef(null);
  const { data, error, reload } = useLive((signal) => loadWindow(low, high, task, most, signal), key, { concerns, everyMs: 10_000 });
  if (data) last.current = data;
  const found = data || last.current;
  const rows = found ? found.rows.slice(0, most) : [];
  const zoom = (factor, at = null) => {
    if (isLive && at === null) return move({ end: null, span: shown.span * factor });
    const pivot = at ?? from + shown.span / 2;
    const span = Math.min(MOST_SPAN, Math.max(LEAST_SPAN, shown.span * factor));
    return move({ span, end: pivot + ((to - pivot) / shown.span) * span });
  };
  const pan = (share) => move({ span: shown.span, end: to + shown.span * share });
  const live = () => move({ span: shown.span, end: null });
  return html`<div class="timeline">
    <div class="filters timeline-tools"><div class="buttons" role="group" aria-label="Move the window">
      <button type="button" class="small" aria-label="Earlier" onClick=${() => pan(-0.5)}>←</button>
      <button type="button" class="small" aria-label="Later" onClick=${() => pan(0.5)}>→</button>
      <button type="button" class="small" aria-label="Zoom in" onClick=${() => zoom(0.5)}>+</button>
      <button type="button" class="small" aria-label="Zoom out" onClick=${() => zoom(2)}>−</button>
      <button type="button" class="small" aria-pressed=${isLive ? "true" : "false"} onClick=${live}>Live</button></div>
      <div class="buttons segments" role="group" aria-label="Length of the window">${SPANS.map(([span, text]) => html`<button type="button" class="small"
        aria-pressed=${Math.abs(shown.span - span) < 1000 ? "true" : "false"} onClick=${() => move({ end: shown.end, span: Number(span) })}>${text}</button>`)}</div>
      <span class="muted num window-text">${short(from, zone, now)} – ${isLive ? "now" : short(to, zone, now)}</span></div>
    ${error && !found ? html`<${Failure} error=${error} again=${reload} />` : !found ? html`<${Loading} />`
      : html`<${Plot} rows=${rows} lines=${found.lines} from=${from} to=${to} now=${now} zone=${zone} task=${task} parameters=${parameters} move=${move} zoom=${zoom} pan=${pan} live=${live} />`}
    ${found ? html`<${Lines} lines=${found.lines.filter((each) => (each.until ?? each.at) >= from && each.at <= to)} />` : null}
    ${found?.next ? html`<p class="center"><button type="button" onClick=${() => setMost(most + MOST_ROWS)}>Show more tasks</button></p>` : null}
    ${found?.partial ? html`<p class="remark">${found.partial}</p>` : null}
    ${found?.thinned ? html`<p class="muted hint">Runs that are close together are drawn as one; zoom in to see each.</p>` : null}
    <${Legend} shapes=${shapesIn(rows)} />
    ${found ? html`<${AsTable} rows=${rows} lines=${found.lines} from=${from} to=${to} zone=${zone} now=${now} />` : null}
  </div>`;
}

function Plot({ rows, lines, from, to, now, zone, task, parameters, move, zoom, pan, live }) {
  const [place, width] = useSize();
  const canvas = useRef(null);
  const isDark = useDark();
  const shownTheme = useCell(theme);
  const [pointed, setPointed] = useState(null);
  const [cursor, setCursor] = useState(null);
  const drag = useRef(null);
  const isNarrow = narrow.matches && !task;
  const full = task ? 44 : isNarrow ? 42 : 28;
  const bars = task ? 24 : 16;
  const height = AXIS + rows.length * full + 4;
  const laid = rows.map((row, i) => ({ task: row, top: AXIS + i * full, full, y: AXIS + i * full + (isNarrow ? full - bars - 4 : (full - bars) / 2), height: bars }));
  const view = { from, to, width, height };
  const at = ms(parameters.get("at"));
  const momentOf = (x) => from + (x / width) * (to - from);
  const rowOf = (y) => Math.max(0, Math.min(rows.length - 1, Math.floor((y - AXIS) / full)));

  useLayoutEffect(() => {
    if (!width || !canvas.current) return;
    const ratio = devicePixelRatio || 1;
    canvas.current.width = width * ratio;
    canvas.current.height = height * ratio;
    const context = canvas.current.getContext("2d");
    context.scale(ratio, ratio);
    draw(context, view, laid, lines, { paint: colours(canvas.current), zone, now, at, cursor, isSingle: Boolean(task) });
  }, [rows, lines, from, to, width, height, zone, shownTheme, isDark, cursor, at]);

  const explain = (row, moment) => {
    if (!row) return;
    const rest = task ? Object.fromEntries(new URLSearchParams(location.hash.split("?")[1] || "")) : {};
    go(hrefOf("task", row.id, { ...rest, at: iso(Math.round(moment)) }), { replace: !!task });
  };
  const chosen = (x, y) => {
    const row = laid[rowOf(y)];
    if (!row) return null;
    const found = hit(row, x, view, now);
    const moment = found && !["band", "dropped"].includes(found.kind) ? found.thing.tick ?? found.thing.at ?? found.thing.start : momentOf(x);
    return { row: row.task, found, moment };
  };
  const down = (event) => {
    if (event.button) return;
    drag.current = { x: event.offsetX, end: to, moved: false };
    canvas.current.setPointerCapture(event.pointerId);
  };
  const moved = (event) => {
    const held = drag.current;
    if (held && (held.moved || Math.abs(event.offsetX - held.x) > 4)) {
      held.moved = true;
      setPointed(null);
      move({ span: to - from, end: held.end - ((event.offsetX - held.x) / width) * (to - from) });
      return;
    }
    const found = chosen(event.offsetX, event.offsetY);
    setPointed(found && { ...found, x: event.offsetX, y: event.offsetY });
  };
  const up = (event) => {
    const held = drag.current;
    drag.current = null;
    if (!held || held.moved) return;
    const found = chosen(event.offsetX, event.offsetY);
    if (found) explain(found.row, found.moment);
  };
  useEffect(() => {
    // The page scrolls by the wheel as ever; with Ctrl (or a pinch) it zooms, and sideways it pans.
    const element = canvas.current;
    const wheel = (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), momentOf(event.offsetX));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        pan((event.deltaX || event.deltaY) / width / 1.5);
      }
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  });
  const step = (by) => {
    const row = cursor?.row ?? 0;
    const things = rows[row] ? thingsOf(rows[row]) : [];
    const visible = things.filter((each) => each.at <= to && each.at >= from);
    const before = cursor?.at ?? currentTime(); // Not the second that is drawn: a run may have started since.
    const next = by > 0 ? visible.find((each) => each.at > before + 0.5) : visible.findLast((each) => each.at < before - 0.5);
    if (next) setCursor({ row, at: next.at, found: next });
    else pan(by * 0.3);
  };
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), PageUp: () => pan(-0.5), PageDown: () => pan(0.5), End: live,
    ArrowUp: () => setCursor({ row: Math.max(0, (cursor?.row ?? 0) - 1), at: cursor?.at ?? now }),
    ArrowDown: () => setCursor({ row: Math.min(rows.length - 1, (cursor?.row ?? -1) + 1), at: cursor?.at ?? now }),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), Enter: () => explain(rows[cursor?.row ?? 0], cursor?.at ?? now),
  };
  const key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  const said = cursor && rows[cursor.row] ? `${rows[cursor.row].name}: ${cursor.found ? inWords(cursor.found, zone, now) : short(cursor.at, zone, now)}. Enter explains.` : "";
  if (!rows.length) return html`<div ref=${place}><p class="empty-title center">Nothing to draw in this window</p></div>`;
  return html`<div class=${`plot ${task ? "is-single" : ""}`}>
    ${task ? null : html`<div class="plot-names" style=${`padding-top:${AXIS}px`}>${rows.map((row) => html`<a key=${row.id} class="plot-name" data-row data-open href=${hrefOf("task", row.id)}
      style=${`height:${full}px`} title=${row.name}><span>${row.name}</span></a>`)}</div>`}
    <div class="plot-area" ref=${place}>
      <canvas ref=${canvas} tabindex="0" role="img" style=${`width:${width}px;height:${height}px`} data-timeline
        aria-label=${`Timeline from ${minute(from, zone)} to ${minute(to, zone)}. ${rows.map(summary).join(". ")}. Arrow keys go from run to run, Enter explains.`}
        onPointerDown=${down} onPointerMove=${moved} onPointerUp=${up} onPointerLeave=${() => setPointed(null)} onPointerCancel=${() => { drag.current = null; }} onKeyDown=${key} onBlur=${() => setCursor(null)}></canvas>
      <p class="visually-hidden" aria-live="polite">${said}</p>
      ${cursor && said ? html`<div class="tip tip-fixed">${said}</div>` : null}
      ${pointed ? html`<div class="tip" style=${`top:${pointed.y + 14}px;${pointed.x > width / 2 ? `right:${width - pointed.x}px` : `left:${pointed.x}px`}`}>
        <strong>${pointed.row.name}</strong><br />${pointed.found ? inWords(pointed.found, zone, now) : short(pointed.moment, zone, now)}<br /><span class="muted">Click to explain</span></div>` : null}
    </div></div>`;
}

const MOST_LINES = 4;

/** What concerns all tasks, in words: on the drawing these are lines. */
function Lines({ lines }) {
  if (!lines.length) return null;
  const all = merged(lines);
  const shown = all.slice(-MOST_LINES);
  return html`<ul class="lines" aria-label="What concerned all tasks">${shown.map((each) => html`<li key=${each.what}>${each.count > 1 ? html`<span>${severalInWords(each)}, the last at <${Moment} at=${each.at} /></span>`
    : html`<${Moment} at=${each.at} /> <span>${each.text}</span>`}</li>`)}
    ${all.length > MOST_LINES ? html`<li class="muted">and ${all.length - MOST_LINES} earlier</li>` : null}</ul>`;
}

const LEGEND = [["SUCCEEDED", "succeeded"], ["FAILED", "failed"], ["TIMED_OUT", "timed out"], ["CANCELLED", "cancelled"], ["LOST", "lost"], [null, "running"], ["skip", "skipped"], ["band", "held"], ["dropped", "older runs are not kept"]];

function Legend({ shapes }) {
  const seen = useRef(new Set()).current; // What goes away may come back: the legend does not move.
  for (const each of shapes) seen.add(each);
  return html`<ul class="legend" aria-label="What the shapes mean">${LEGEND.filter(([what]) => seen.has(what)).map(([what, text]) => html`<li key=${text}><${Sample} what=${what} />${text}</li>`)}</ul>`;
}

function Sample({ what }) {
  const canvas = useRef(null);
  const shownTheme = useCell(theme);
  const isDark = useDark();
  useLayoutEffect(() => {
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas.current, { width: 28 * ratio, height: 18 * ratio });
    const context = canvas.current.getContext("2d");
    context.scale(ratio, ratio);
    const paint = colours(canvas.current);
    if (what === "skip") skip(context, 12, 1, 16, paint);
    else if (what === "band") band(context, 2, 1, 22, 16, paint);
    else if (what === "dropped") dropped(context, 2, 22, 1, 16, paint);
    else bar(context, what, 3, 2, 17, 14, paint, paint.surface);
  }, [what, shownTheme, isDark]);
  return html`<canvas ref=${canvas} class="sample" aria-hidden="true"></canvas>`;
}

const MOST_TABLE = 100;

/** The same for those who cannot see or do not want the drawing. */
function AsTable({ rows, lines, from, to, zone, now }) {
  const [isOpen, setOpen] = useState(false);
  const all = isOpen ? rows.flatMap((row) => thingsOf(row).filter((each) => each.at >= from && each.at <= to).map((each) => ({ ...each, row })))
    .sort((a, b) => b.at - a.at).slice(0, MOST_TABLE) : [];
  return html`<details class="as-table" onToggle=${(event) => setOpen(event.target.open)}><summary>The same as a table</summary>
    ${isOpen ? html`<table class="cards"><caption class="visually-hidden">What the timeline shows, the newest first</caption><thead><tr><th scope="col">When</th><th scope="col">Task</th><th scope="col">What</th></tr></thead>
      <tbody>${lines.filter((each) => each.at >= from && each.at <= to).map((each) => html`<tr key=${`line ${each.at}`}><td data-label="When"><${Moment} at=${each.at} /></td><td data-label="Task">all</td><td data-label="What">${each.text}</td></tr>`)}
      ${all.map((each, i) => html`<tr key=${i}><td data-label="When"><${Moment} at=${each.at} /></td><td data-label="Task"><a href=${hrefOf("task", each.row.id, { at: iso(each.at) })}>${each.row.name}</a></td><td data-label="What">${inWords(each, zone, now)}</td></tr>`)}</tbody></table>` : null}
  </details>`;
}
