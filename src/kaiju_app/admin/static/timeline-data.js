// What the endpoint says of a window of time, with instants as numbers, and in words.
import { get } from "./api.js";
import { duration, iso, ms, short } from "./format.js";
import { labelOf } from "./outcomes.js";

/** Load a window. Of one task, if *task* is given. */
export async function loadWindow(from, to, task, signal) {
  const found = await get("api/timeline", { from: iso(from), to: iso(to), q: task ? task.name.slice(0, 200) : null }, signal);
  const rows = found.tasks.map((each) => ({
    name: each.task, id: each.task_id, state: each.state,
    bars: each.bars.map((bar) => ({ ...bar, start: ms(bar.start), end: ms(bar.end), tick: ms(bar.tick) })),
    marks: each.marks.map((mark) => ({ ...mark, at: ms(mark.at), until: ms(mark.until) ?? ms(mark.at) })),
    bands: each.bands.map((band) => ({ ...band, from: ms(band.from), to: ms(band.to) })),
    upcoming: (each.upcoming || []).map(ms),
  }));
  return {
    from, to, now: ms(found.now), partial: found.partial, thinned: found.thinned,
    rows: task ? rows.filter((each) => each.id === task.id) : rows,
    lines: found.lines.map((each) => ({ ...each, at: ms(each.at), until: ms(each.until) })),
  };
}

export function inWords({ kind, thing }, zone, now) {
  const at = (moment) => short(moment, zone, now);
  const many = thing.count > 1 ? ` ×${thing.count}` : "";
  const why = thing.reason ? `: ${thing.reason}` : "";
  if (kind === "bar") {
    const what = thing.outcome ? labelOf(thing.outcome) : "running";
    return `${at(thing.start)} ${what}${why}${many}, ${duration(((thing.end ?? now) - thing.start) / 1000)}`;
  }
  if (kind === "mark") return `${at(thing.at)} skipped${why}${many}${thing.until > thing.at ? ` to ${at(thing.until)}` : ""}`;
  if (kind === "band") return `held by ${thing.holder}${why}, from ${at(thing.from)}${thing.to ? ` to ${at(thing.to)}` : " on"}`;
  return `${at(thing.at)} planned`;
}

/** One sentence of a row, for those who do not see it. */
export function summary(row) {
  const counts = new Map();
  for (const each of row.bars) counts.set(each.outcome || "RUNNING", (counts.get(each.outcome || "RUNNING") || 0) + (each.count || 1));
  const skips = row.marks.reduce((sum, each) => sum + (each.count || 1), 0);
  const parts = [...counts].map(([outcome, number]) => `${number} ${labelOf(outcome)}`);
  if (skips) parts.push(`${skips} skipped`);
  if (row.bands.length) parts.push(`held by ${row.bands.map((each) => each.holder).join(", ")}`);
  return `${row.name}: ${parts.length ? parts.join(", ") : "nothing"}`;
}
