// The shortcuts of the whole page. Widgets, such as the timeline, have theirs themselves.
import { dialog, shortcuts } from "./state.js";
import { askCancel, pauseOrResume, runNow, whyNot } from "./actions.js";
import { go } from "./router.js";

/** The task that a view is about, for keys that act on it while no row has the focus. */
export const subject = { task: null };

/** The tasks of rows that are drawn, by id. */
export const drawn = new Map();

/** What the next view that is opened gives the focus to, instead of its beginning. */
export const wanted = { search: false };

const VIEWS = { 1: "#/", 2: "#/tasks", 3: "#/instances", 4: "#/events" };

function taskAtFocus() {
  const row = document.activeElement?.closest?.("[data-task]");
  return (row && drawn.get(row.dataset.task)) || subject.task;
}

function move(step) {
  const rows = [...document.querySelectorAll("#main [data-row]")].filter((each) => each.offsetParent !== null);
  const at = rows.indexOf(document.activeElement?.closest?.("[data-row]"));
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  const target = next?.matches("a, button") ? next : next?.querySelector("[data-open]");
  target?.focus();
  target?.scrollIntoView({ block: "nearest" });
}

export function search() {
  const field = document.querySelector("#search");
  if (field) {
    field.focus();
    field.select();
    return;
  }
  wanted.search = true;
  go("#/tasks");
}

function act(verb) {
  const task = taskAtFocus();
  if (task && !whyNot(task)) verb(task);
}

const KEYS = {
  "/": search,
  j: () => move(1),
  k: () => move(-1),
  r: () => act(runNow),
  p: () => act(pauseOrResume),
  c: () => act((task) => task.running && askCancel(task)),
  "?": () => dialog.set({ kind: "help" }),
};

export function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || dialog.value) return;
  const target = event.target;
  if (target instanceof HTMLElement && target.matches("input, textarea, select")) {
    if (event.key === "Escape" && target.id === "search") target.blur();
    return;
  }
  if (shortcuts.value === "off") return;
  const found = KEYS[event.key] || (VIEWS[event.key] ? () => go(VIEWS[event.key]) : null);
  if (!found) return;
  event.preventDefault();
  found();
}
