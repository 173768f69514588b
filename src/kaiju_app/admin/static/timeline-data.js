// What the endpoint says of a window of time, with instants as numbers, and in words.
import { get } from "./api.js";
import { duration, iso, ms, short } from "./format.js";
import { labelOf } from "./outcomes.js";

const PAGE = 40;

/** Load a window: of one task if *task* is given, otherwise of the first *most* tasks. */
export async function loadWindow(from, to, task, most, signal) {
  const found = { from, to, rows: [], lines: [], partial: null, thinned: false, next: null };
  do {
    const page = await get("api/timeline", { from: iso(from), to: iso(to), task: task?.id, limit: PAGE, cursor: found.next }, signal);
    found.rows.push(...page.tasks.map((each) => rowOf(each, from)));
    for (const each of page.lines) {
      if (!found.lines.some((other) => other.iso === each.at && other.text === each.text)) {
        found.lines.push({ ...each, iso: each.at, at: ms(each.at), until: ms(each.until) });
      }
    }
    Object.assign(found, { partial: found.partial || page.partial, thinned: found.thinned || page.thinned, next: page.next });
  } while (found.next && found.rows.length < most);
  if (task) found.rows = found.rows.filter((each) => each.id === task.id);
  const starts = found.lines.filter((each) => each.kind === "started").map((each) => each.at);
  for (const row of found.rows) row.droppedFrom = Math.max(...starts.filter((each) => each <= row.keptSince), -Infinity);
  return found;
}

function rowOf(each, from) {
  return {
    name: each.task, id: each.task_id, state: each.state,
    bars: each.bars.map((bar) => ({ ...bar, start: ms(bar.start), end: ms(bar.end), tick: ms(bar.tick) })),
    marks: each.marks.map((mark) => ({ ...mark, at: ms(mark.at), until: ms(mark.until) })),
    bands: each.bands.map((band) => ({ ...band, from: ms(band.from) ?? from, isOpen: band.from === null, to: ms(band.to) })),
    upcoming: each.upcoming.map(ms), keptSince: ms(each.kept_since),
  };
}

export function inWords({ kind, thing }, zone, now) {
  const at = (moment) => short(moment, zone, now);
  if (kind === "dropped") return `runs before ${at(thing.to)} are not kept`;
  const many = thing.count > 1 ? ` ×${thing.count}` : "";
  const why = thing.reason ? `: ${thing.reason}` : "";
  if (kind === "bar") {
    const what = thing.outcome ? labelOf(thing.outcome) : "running";
    const number = thing.count > 1 ? `${thing.worst} of ${thing.count} runs ${what}` : what;
    const took = Math.max(0, (thing.end ?? now) - thing.start);
    return `${at(thing.start)} ${number}${why}, ${took < 1 ? "under 1 ms" : duration(took / 1000)}`;
  }
  if (kind === "mark") return `${at(thing.at)} skipped${why}${many}${thing.until > thing.at ? ` to ${at(thing.until)}` : ""}`;
  if (kind === "band") {
    const who = thing.kind === "disabled" ? `disabled by ${thing.holder}` : `held by ${thing.holder}`;
    return `${who}${why}${many}${thing.isOpen ? "" : `, from ${at(thing.from)}`}${thing.to ? ` to ${at(thing.to)}` : " on"}`;
  }
  return `${at(thing.at)} planned`;
}

/** Which shapes are drawn, so that no others need a legend: outcomes, null for what runs, and kinds. */
export function shapesIn(rows) {
  const found = new Set();
  for (const row of rows) {
    for (const each of row.bars) found.add(each.outcome);
    if (row.marks.length) found.add("skip");
    if (row.bands.length) found.add("band");
    if (isDropped(row)) found.add("dropped");
  }
  return found;
}

/** Whether runs were dropped since the scheduler was started, before which there were none. */
export const isDropped = (row) => row.keptSince !== null && row.keptSince - row.droppedFrom > 1000;

/** One sentence of a row, for those who do not see it. */
export function summary(row) {
  const counts = new Map();
  for (const each of row.bars) counts.set(each.outcome || "RUNNING", (counts.get(each.outcome || "RUNNING") || 0) + each.count);
  const skips = row.marks.reduce((sum, each) => sum + each.count, 0);
  const parts = [...counts].map(([outcome, number]) => `${number} ${labelOf(outcome)}`);
  if (skips) parts.push(`${skips} skipped`);
  if (row.bands.length) parts.push(`held by ${row.bands.map((each) => each.holder).join(", ")}`);
  if (isDropped(row)) parts.push("older runs are not kept");
  return `${row.name}: ${parts.length ? parts.join(", ") : "nothing"}`;
}

const LASTED = /(?: \d+ times)? for ([\d.e+]+) s(?: in all)?/; // As the endpoint says how often and how long something was.
const UNITED = /, and \d+ more of these$/; // As it says that others were near, and not how long they were.

/** What concerned all tasks, in the order of the last time: lines that say the same are one, with their number and sum. */
export function merged(lines) {
  const found = new Map();
  for (const each of lines) {
    const what = each.text.replace(UNITED, "").replace(LASTED, "");
    const before = found.get(what) || { count: 0, lasted: 0, isExact: true };
    const [, lasted = 0] = LASTED.exec(each.text) || [];
    found.delete(what);
    found.set(what, { what, text: each.text, at: each.count > 1 ? each.until ?? each.at : each.at, count: before.count + each.count, lasted: before.lasted + Number(lasted), isExact: before.isExact && !UNITED.test(each.text) });
  }
  return [...found.values()].sort((a, b) => a.at - b.at);
}

/** Several of these in words, without the time of the last one. */
export function severalInWords({ what, count, lasted, isExact }) {
  return `${what}: ${count} times${lasted && isExact ? `, ${duration(lasted)} in all` : ""}`;
}
