// The page: its frame, and which view is shown.
import { html, render, useEffect, useRef } from "./vendor/preact.js";
import { follow, get, useLive } from "./api.js";
import { dialog, link, may, notice, theme, useCell, zone } from "./state.js";
import { localZone } from "./format.js";
import { useRoute } from "./router.js";
import { Denied, Dialogs, Token } from "./dialogs.js";
import { onKey, subject, wanted } from "./keyboard.js";
import { Overview } from "./views/overview.js";
import { Tasks } from "./views/tasks.js";
import { Task } from "./views/task.js";
import { Instances } from "./views/instances.js";
import { Events } from "./views/events.js";

const VIEWS = { overview: Overview, tasks: Tasks, task: Task, instances: Instances, events: Events };
const NAMES = [["overview", "#/", "Overview"], ["tasks", "#/tasks", "Tasks"], ["instances", "#/instances", "Instances"], ["events", "#/events", "Events"]];
const THEMES = { auto: ["dark", "Theme: as the system"], dark: ["light", "Theme: dark"], light: ["auto", "Theme: light"] };
const NOTICE_MS = 8_000;

function Bar({ view }) {
  const shownTheme = useCell(theme);
  const where = useCell(zone);
  const rights = useCell(may);
  const [next, label] = THEMES[shownTheme] || THEMES.auto;
  return html`<header class="bar">
    <button type="button" class="skip" onClick=${() => document.querySelector("#main").focus()}>Skip to the content</button>
    <a class="brand" href="#/"><svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true"><rect class="fill-accent" width="32" height="32" rx="7"/><path class="brand-in" d="M7 10h10v4H7zM12 18h13v4H12z"/></svg>Scheduler</a>
    <nav aria-label="Views">${NAMES.map(([name, href, text]) => html`<a href=${href}
      aria-current=${name === view || (name === "tasks" && view === "task") ? "page" : null}>${text}</a>`)}</nav>
    <div class="tools">
      ${rights && !rights.includes("operate") ? html`<span class="chip" title="You may look at everything here, but not run, pause or cancel tasks">read only</span>` : null}
      <button type="button" class="quiet" title=${where === "utc" ? "Times are in UTC" : `Times are in ${localZone()}`}
        onClick=${() => zone.set(where === "utc" ? "local" : "utc")}>${where === "utc" ? "UTC" : "Local"}<span class="visually-hidden"> time: switch</span></button>
      <button type="button" class="quiet" aria-label=${label} title=${label} onClick=${() => theme.set(next)}>${{ auto: "Auto", dark: "Dark", light: "Light" }[shownTheme] || "Auto"}</button>
      <button type="button" class="quiet" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${() => dialog.set({ kind: "help" })}>?</button>
    </div></header>`;
}

function Banner() {
  const { state } = useCell(link);
  return html`<div role="alert" class="banner-place">${state === "down" ? html`<p class="banner" data-banner>
    <strong>The server does not answer.</strong> What you see is from before. This page tries again by itself.</p>` : null}</div>`;
}

function Notice() {
  const told = useCell(notice);
  useEffect(() => {
    if (!told) return undefined;
    const timer = setTimeout(() => notice.set(null), told.isError ? 3 * NOTICE_MS : NOTICE_MS);
    return () => clearTimeout(timer);
  }, [told]);
  return html`<div class="notice-place" role="status" aria-live="polite" aria-atomic="true">
    ${told ? html`<p class=${told.isError ? "notice notice-error" : "notice"} data-notice>${told.text}
      <button type="button" class="quiet" aria-label="Close this message" onClick=${() => notice.set(null)}>×</button></p>` : null}</div>`;
}

function Page() {
  const route = useRoute();
  const { state, detail } = useCell(link);
  const { data: scheduler } = useLive((signal) => get("api/scheduler", {}, signal), "scheduler", { everyMs: 5_000 });
  const main = useRef(null);
  const place = `${route.view}/${route.id}`;
  const isFirst = useRef(true);
  useEffect(() => {
    if (route.view !== "task") subject.task = null;
    dialog.set(null);
    if (!isFirst.current) {
      const target = (wanted.search && document.querySelector("#search")) || main.current;
      target?.focus({ preventScroll: true });
      scrollTo(0, 0);
      wanted.search = false;
    }
    isFirst.current = false;
  }, [place]);
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  if (state === "token") return html`<main id="main" tabindex="-1"><${Token} detail=${detail} /></main>`;
  if (state === "denied") return html`<main id="main" tabindex="-1"><${Denied} detail=${detail} /></main>`;
  const View = VIEWS[route.view] || Missing;
  return html`<${Bar} view=${route.view} /><${Banner} />
    <main id="main" tabindex="-1" ref=${main}><${View} key=${place} id=${route.id} parameters=${route.parameters} scheduler=${scheduler} /></main>
    <${Notice} /><${Dialogs} scheduler=${scheduler} />`;
}

const Missing = () => html`<h1>There is no such view</h1><p><a href="#/">Go to the overview</a></p>`;

render(html`<${Page} />`, document.getElementById("app"));
follow();
