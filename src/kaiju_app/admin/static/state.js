// What the whole page shares: the settings that are kept, the clock, and the state of the connection.
import { useEffect, useState } from "./vendor/preact.js";

function kept(name, fallback) {
  try {
    return localStorage.getItem(`kaiju.${name}`) || fallback;
  } catch {
    return fallback;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`kaiju.${name}`, value);
  } catch {
    // Storage is forbidden: the setting lasts as long as the page.
  }
}

class Cell {
  constructor(value) {
    this.value = value;
    this.listeners = new Set();
  }

  set(value) {
    if (value === this.value) return;
    this.value = value;
    for (const each of [...this.listeners]) each(value);
  }
}

/** The values of some cells, which stay the same ones: one subscription, because a table of tasks has hundreds. */
function useCells(...cells) {
  const [, redraw] = useState(0);
  const values = cells.map((each) => each.value);
  useEffect(() => {
    const changed = () => redraw((number) => number + 1);
    for (const each of cells) each.listeners.add(changed);
    if (cells.some((each, i) => each.value !== values[i])) changed();
    return () => {
      for (const each of cells) each.listeners.delete(changed);
    };
  }, []);
  return values;
}

export const useCell = (cell) => useCells(cell)[0];

/** "light", "dark", or "auto": what the system prefers. */
export const theme = new Cell(kept("theme", "auto"));
/** "local" or "utc". */
export const zone = new Cell(kept("zone", "local"));
/** "on" or "off": single letters as shortcuts. */
export const shortcuts = new Cell(kept("shortcuts", "on"));

theme.listeners.add((value) => {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  keep("theme", value);
});
zone.listeners.add((value) => keep("zone", value));
shortcuts.listeners.add((value) => keep("shortcuts", value));

/** The connection: "new", "up", "down", "token" (one is needed) or "denied"; with a sentence. */
export const link = new Cell({ state: "new", detail: "" });
/** What the caller may do, as the endpoint says: ["read", "operate"]; null until that is known. */
export const may = new Cell(null);
/** What was done, for eyes and for screen readers: {text, isError}. */
export const notice = new Cell(null);
/** The dialog that is open: {kind, task} or null. */
export const dialog = new Cell(null);

export function setLink(state, detail = "") {
  if (link.value.state !== state || link.value.detail !== detail) link.set({ state, detail });
}

let offset = 0;

/** The scheduler's clock may differ from that of this machine. */
export function setServerTime(iso) {
  const found = Date.parse(iso) - Date.now();
  if (Math.abs(found - offset) > 1500) offset = found;
}

export const now = () => Date.now() + offset;

const second = new Cell(now());
setInterval(() => {
  if (!document.hidden) second.set(now());
}, 1000);

/** The time, new every second. */
export const useNow = () => useCell(second);

/** The zone that is shown, and the time. */
export const useClock = () => useCells(zone, second);
