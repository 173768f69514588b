// Where things are on the timeline, and how they are drawn: pure geometry and one canvas.
// Shapes tell the same as colours: a run that succeeded is a plain bar, a failed one is taller with a cross, one that timed
// out ends at a wall, a cancelled one is hatched, a lost one is dashed and empty, one in progress is open to the right.
import { toneOf } from "./outcomes.js";
import { day, minute, time } from "./format.js";
import { isDropped } from "./timeline-data.js";

export const AXIS = 26; // Height of the time axis.
const LEAST_BAR = 3;
const COLUMN = LEAST_BAR + 1; // Short runs with less than this between them share columns: many look like many, not like one.
const WORST = ["failed", "timed-out", "lost", "cancelled", "running", "succeeded"];
const WHOLE = ["daylight saving", "clock set", "machine slept"];
const NOT_KEPT = "older runs are not kept";
const NEAR = 5; // Pixels beside a thing that count as on it.

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map((each) => each * 1000);

/** Round instants for the axis, in the zone that is shown. */
export function ticksOf(from, to, width, zone) {
  const step = STEPS.find((each) => ((to - from) / each) * 84 < width) || STEPS.at(-1);
  const shift = zone === "utc" ? 0 : new Date(from).getTimezoneOffset() * 60_000;
  const found = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) {
    const text = step >= 86_400_000 || (at - shift) % 86_400_000 === 0 ? day(at, zone) : step < 60_000 ? time(at, zone) : minute(at, zone);
    found.push({ at, text });
  }
  return found;
}

/** The colours of the theme, from style.css. */
export function colours(element) {
  const style = getComputedStyle(element);
  const names = ["succeeded", "failed", "timed-out", "cancelled", "skipped", "lost", "running", "held", "line", "rule", "muted", "text", "surface", "stripe", "accent"];
  return Object.fromEntries(names.map((each) => [each, style.getPropertyValue(`--${each}`).trim()]));
}

export function bar(context, outcome, x, y, width, height, paint, surface) {
  const tone = outcome ? toneOf(outcome) : "running";
  const low = Math.round(height * 0.2);
  const [top, tall] = tone === "failed" || tone === "lost" ? [y, height] : [y + low, height - 2 * low];
  const colour = paint[tone];
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  if (tone === "lost") {
    context.setLineDash([3, 2]);
    context.strokeRect(x + 0.75, top + 0.75, Math.max(width - 1.5, 2), tall - 1.5);
    context.setLineDash([]);
    return;
  }
  if (tone === "cancelled") return hatched(context, x, top, Math.max(width, 5), tall, colour);
  context.beginPath();
  if (context.roundRect && width > 4) context.roundRect(x, top, width, tall, 2);
  else context.rect(x, top, width, tall);
  context.fill();
  if (tone === "timed-out") context.fillRect(x + width - 1, y - 1, 3, height + 2);
  if (tone === "running" && width > 4) {
    context.beginPath();
    context.moveTo(x + width, y + 1);
    context.lineTo(x + width + 5, y + height / 2);
    context.lineTo(x + width, y + height - 1);
    context.fill();
  }
  if (tone === "failed") {
    context.strokeStyle = width >= 11 ? surface : colour;
    const cx = width >= 11 ? x + width / 2 : x + width / 2;
    const cy = y + height / 2;
    const r = 3;
    if (width >= 11) {
      context.beginPath();
      context.moveTo(cx - r, cy - r);
      context.lineTo(cx + r, cy + r);
      context.moveTo(cx + r, cy - r);
      context.lineTo(cx - r, cy + r);
      context.stroke();
    } else {
      context.beginPath();
      context.moveTo(cx - 4, y - 1);
      context.lineTo(cx + 4, y - 1);
      context.lineTo(cx, y + 5);
      context.fill();
    }
  }
}

/** Several runs in one bar: from the top, as much of it as did worst. */
function several(context, { outcome, count, worst }, x, y, width, height, paint) {
  bar(context, "SUCCEEDED", x, y, width, height, paint, paint.surface);
  if (outcome === "SUCCEEDED") return;
  context.fillStyle = paint[outcome ? toneOf(outcome) : "running"];
  context.fillRect(x, y, width, Math.max(5, Math.round((height * worst) / count)));
}

/** Bars to draw instead of *bars*: of short ones that are too near to each other one a column, whose place is kept. */
export function apart(bars, wide, now) {
  const [found, short] = [[], []];
  for (const each of bars) {
    const length = (each.end ?? now) - each.start;
    if (each.end === null || (length > wide && each.count <= 1)) found.push(each);
    else if (length <= wide) short.push(each);
    else {
      const [first, last] = [each.start, each.end].map((at) => Math.floor(at / wide)); // Whole: a distance may be rounded.
      const number = Math.min(each.count, last - first + 1);
      for (let column = first; column < first + number; column++) short.push({ ...each, start: column * wide, column, count: each.count / number, worst: each.worst / number });
    }
  }
  short.sort((a, b) => a.start - b.start);
  const columns = new Map();
  short.forEach((each, i) => {
    const isNear = each.start - short[i - 1]?.start < wide || short[i + 1]?.start - each.start < wide;
    if (each.column === undefined && !isNear) return found.push(each);
    const column = each.column ?? Math.floor(each.start / wide);
    const before = columns.get(column);
    if (!before) return columns.set(column, { ...each, start: column * wide, end: column * wide, isColumn: true });
    const order = WORST.indexOf(toneOf(each.outcome)) - WORST.indexOf(toneOf(before.outcome));
    before.count += each.count;
    if (order === 0) before.worst += each.worst;
    else if (order < 0) [before.outcome, before.worst] = [each.outcome, each.worst];
  });
  return [...found, ...columns.values()];
}

function hatched(context, x, y, width, height, colour) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.globalAlpha = 0.25;
  context.fillRect(x, y, width, height);
  context.globalAlpha = 1;
  context.beginPath();
  for (let at = x - height; at < x + width; at += 5) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  context.restore();
}

export function skip(context, x, y, height, paint, width = 0) {
  const cy = y + height / 2;
  const r = Math.min(5, height / 3);
  context.strokeStyle = paint.skipped;
  context.fillStyle = paint.surface;
  context.lineWidth = 1.5;
  if (width > 2 * r) {
    context.beginPath();
    context.moveTo(x, cy);
    context.lineTo(x + width, cy);
    context.stroke();
  }
  for (const cx of width > 2 * r ? [x, x + width] : [x + width / 2]) {
    context.beginPath();
    context.moveTo(cx, cy - r);
    context.lineTo(cx + r, cy);
    context.lineTo(cx, cy + r);
    context.lineTo(cx - r, cy);
    context.closePath();
    context.fill();
    context.stroke();
  }
}

export function band(context, x, y, width, height, paint) {
  context.save();
  context.fillStyle = paint.held;
  context.globalAlpha = 0.22;
  context.fillRect(x, y, width, height);
  context.globalAlpha = 1;
  context.fillRect(x, y, width, 2);
  context.restore();
}

/** A time of which no runs are kept any more: dots until what is kept begins, and *text* where it fits. */
export function dropped(context, x, end, y, height, paint, text = "") {
  const cy = Math.round(y + height / 2) + 0.5;
  const wide = text ? context.measureText(text).width + 16 : 0;
  const isTold = wide && wide < end - x - 8;
  context.strokeStyle = paint.muted;
  context.lineWidth = 1;
  context.setLineDash([1, 4]);
  context.beginPath();
  context.moveTo(isTold ? x + wide : x, cy);
  context.lineTo(end, cy);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(end - 0.5, y + 2);
  context.lineTo(end - 0.5, y + height - 2);
  context.stroke();
  if (!isTold) return;
  context.fillStyle = paint.muted;
  context.fillText(text, x + 8, cy);
}

/** Draw everything. *rows* have y, height and the task; *view* has from, to, width, height. */
export function draw(context, view, rows, lines, { paint, zone, now, cursor, at, isSingle }) {
  const { from, to, width, height } = view;
  const place = (moment) => ((moment - from) / (to - from)) * width;
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  rows.forEach((row, i) => {
    if (i % 2) {
      context.fillStyle = paint.stripe;
      context.fillRect(0, row.top, width, row.full);
    }
  });
  for (const tick of ticksOf(from, to, width, zone)) {
    const x = Math.round(place(tick.at)) + 0.5;
    context.strokeStyle = paint.rule;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, AXIS - 5);
    context.lineTo(x, height);
    context.stroke();
    context.fillStyle = paint.muted;
    const half = context.measureText(tick.text).width / 2;
    if (x - half > 0 && x + half < width) context.fillText(tick.text, x - half, AXIS / 2 - 1);
  }
  for (const row of rows) {
    if (!isDropped(row.task)) continue;
    const [begin, end] = [Math.max(0, place(row.task.droppedFrom)), Math.min(width, place(row.task.keptSince))];
    if (end > begin) dropped(context, begin, end, row.y, row.height, paint, isSingle ? NOT_KEPT : "");
  }
  for (const row of rows) things(context, row, place, width, paint, now, from, to);
  for (const line of lines) {
    const [x, end] = [place(line.at), place(line.until ?? line.at)];
    if (end < 0 || x > width) continue;
    // What moves ticks goes through all rows; what else there was is a mark on the axis.
    if (WHOLE.includes(line.kind)) vertical(context, x, height, paint.line, [5, 3]);
    context.fillStyle = paint.line;
    context.fillRect(x - 1, AXIS - 6, Math.max(2, end - x), 5);
  }
  if (now > from && now < to) vertical(context, place(now), height, paint.accent, []);
  if (at !== null && at >= from && at <= to) vertical(context, place(at), height, paint.text, [2, 2]);
  if (cursor) {
    const row = rows[cursor.row];
    const x = place(cursor.at);
    if (row) {
      context.strokeStyle = paint.accent;
      context.lineWidth = 2;
      context.strokeRect(x - 5, row.y - 2, 10, row.height + 4);
    }
  }
}

function things(context, row, place, width, paint, now, from, to) {
  const { task, y, height } = row;
  for (const each of task.bands) {
    const [x, end] = [Math.max(0, place(each.from)), Math.min(width, place(each.to ?? Math.max(now, to)))];
    if (end > x) band(context, x, y - 2, end - x, height + 4, paint);
  }
  for (const each of apart(task.bars, ((to - from) / width) * COLUMN, now)) {
    const end = each.end ?? now;
    if (end < from || each.start > to) continue;
    const x = Math.max(-4, place(each.start));
    const wide = Math.max(LEAST_BAR, Math.min(width + 4, place(end)) - x);
    if (each.isColumn || (each.count > 1 && each.worst < each.count)) several(context, each, x, y, wide, height, paint);
    else bar(context, each.outcome, x, y, wide, height, paint, paint.surface);
  }
  for (const each of task.marks) {
    if (each.until < from || each.at > to) continue;
    const x = Math.max(-4, place(each.at));
    skip(context, x, y, height, paint, Math.max(0, Math.min(width + 4, place(each.until)) - x));
  }
  context.strokeStyle = paint.skipped;
  context.lineWidth = 1;
  let last = -9;
  for (const moment of task.upcoming) {
    const x = Math.round(place(moment)) + 0.5;
    if (moment < from || moment > to || x - last < 4) continue;
    last = x;
    context.beginPath();
    context.moveTo(x, y + height * 0.3);
    context.lineTo(x, y + height * 0.7);
    context.stroke();
  }
}

function vertical(context, x, height, colour, dash) {
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(x, AXIS - 6);
  context.lineTo(x, height);
  context.stroke();
  context.setLineDash([]);
}

/** What is at a pixel: {kind, thing} or null. */
export function hit(row, x, view, now) {
  const { from, to, width } = view;
  const place = (moment) => ((moment - from) / (to - from)) * width;
  const is = (start, end) => x >= place(start) - NEAR && x <= Math.max(place(end), place(start) + LEAST_BAR) + NEAR;
  const within = (list, kind, start, end) => {
    const found = list.filter((each) => is(start(each), end(each)));
    const near = found.sort((a, b) => Math.abs(place(start(a)) - x) - Math.abs(place(start(b)) - x))[0];
    return near ? { kind, thing: near } : null;
  };
  return (
    within(row.task.marks, "mark", (each) => each.at, (each) => each.until) ||
    within(row.task.bars, "bar", (each) => each.start, (each) => each.end ?? now) ||
    within(row.task.upcoming.map((at) => ({ at })), "upcoming", (each) => each.at, (each) => each.at) ||
    within(row.task.bands, "band", (each) => each.from, (each) => each.to ?? Math.max(now, to)) ||
    (isDropped(row.task) && x > place(row.task.droppedFrom) && x < place(row.task.keptSince) ? { kind: "dropped", thing: { to: row.task.keptSince } } : null)
  );
}

/** All things of a row in the order of time, for the keyboard and for the table: {kind, thing, at}. */
export function thingsOf(task) {
  return [
    ...task.bars.map((thing) => ({ kind: "bar", thing, at: thing.tick ?? thing.start })),
    ...task.marks.map((thing) => ({ kind: "mark", thing, at: thing.at })),
    ...task.bands.map((thing) => ({ kind: "band", thing, at: thing.from })),
    ...task.upcoming.map((at) => ({ kind: "upcoming", thing: { at }, at })),
  ].sort((a, b) => a.at - b.at);
}
