// The one place that talks to the endpoint. All addresses are relative to the page, so that it works under any prefix.
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import { link, may, now, setLink, setServerTime } from "./state.js";

const TOKEN = "kaiju.token";
const QUIET_MS = 40_000; // The server says something every 15 s.
const LEAST_MS = 1_500; // Between two loads of the same thing, however much happens,
const SHARE = 10; // and this many times as long as a load takes: a page is no burden to the scheduler that it shows.

export class Problem extends Error {
  constructor(status, title, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.title = title;
    this.retryAfter = retryAfter;
  }
}

let token = null;
try {
  token = sessionStorage.getItem(TOKEN);
} catch {
  // Storage is forbidden: the token lasts as long as the page.
}

export function setToken(value) {
  token = value;
  try {
    sessionStorage.setItem(TOKEN, value);
  } catch {
    // As above.
  }
  setLink("new");
  wake();
  emit("reload", {});
}

// --- requests ---

export function address(path, parameters = {}) {
  const url = new URL(path, document.baseURI);
  url.hash = "";
  url.search = "";
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
    }
  }
  return url;
}

async function ask(url, options) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(url, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    setLink("down");
    throw new Problem(0, "No answer", "The server does not answer");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const problem = new Problem(
    answer.status, told.title || answer.statusText, told.detail || `The server answered ${answer.status}`,
    Number(answer.headers.get("Retry-After") || 0),
  );
  if (answer.status === 401) setLink("token", token ? "The token was not accepted." : "");
  else if (answer.status === 403 && told.title === "Read only") setMay(["read"]);
  else if (options.method !== "POST" && (answer.status === 403 || answer.status === 421)) setLink("denied", problem.message);
  else if ([502, 504].includes(answer.status)) setLink("down");
  throw problem;
}

export async function get(path, parameters, signal) {
  const answer = await ask(address(path, parameters), { signal });
  const found = await answer.json();
  if (link.value.state !== "up") setLink("up");
  if (found && found.may) {
    setServerTime(found.time);
    setMay(found.may);
  }
  return found;
}

function setMay(rights) {
  if (String(may.value) !== String(rights)) may.set(rights);
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await ask(address(path), { method: "POST", headers, body: JSON.stringify(body) });
  const found = await answer.json();
  return { status: answer.status, body: found };
}

// --- events ---

const listeners = new Set();
export const seen = []; // The latest events, the newest first, for the view that shows them.
const MOST_SEEN = 500;
let wake = () => {};

export function emit(kind, data) {
  for (const each of [...listeners]) each(kind, data);
}

export function useEvents(listener) {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    const call = (kind, data) => latest.current(kind, data);
    listeners.add(call);
    return () => listeners.delete(call);
  }, []);
}

function told(kind, data) {
  seen.unshift({ kind, data, at: now(), key: (told.count = (told.count || 0) + 1) });
  seen.length = Math.min(seen.length, MOST_SEEN);
  emit(kind, data);
}

const pause = (milliseconds) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });

/** Follow the events for as long as the page is open. EventSource sends no headers, so that a token needs this. */
export async function follow() {
  let last = null;
  let wait = 500;
  let isFirst = true;
  for (;;) {
    const abort = new AbortController();
    try {
      const answer = await ask(address("api/events"), {
        headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
        signal: abort.signal,
      });
      setLink("up");
      wait = 500;
      if (!isFirst) emit("reload", {});
      isFirst = false;
      last = await read(answer.body.getReader(), last, abort);
    } catch (error) {
      if (error.status === 401 || error.status === 403) wait = 10_000;
      if (error.status === 429) wait = 1000 * (error.retryAfter || 10);
      if (error.status === 0) isFirst = false;
      if (error.last) last = error.last;
    }
    await pause(wait);
    wait = Math.min(wait * 1.6, Math.max(wait, 4_000));
  }
}

async function read(reader, last, abort) {
  const decoder = new TextDecoder();
  let text = "";
  let timer = 0;
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), QUIET_MS);
      const { done, value } = await reader.read();
      if (done) return last;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) last = take(block) || last;
    }
  } catch (error) {
    throw Object.assign(error, { last });
  } finally {
    clearTimeout(timer);
  }
}

function take(block) {
  let id = null;
  let kind = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return id;
  told(kind, JSON.parse(data));
  if (kind === "gap") emit("reload", {});
  return id;
}

// --- what views show, and keep up to date ---

/**
 * Load something, and again when an event concerns it, now and then, and after the connection was lost.
 *
 * @param load Takes a signal that aborts it, and a function that shows a part of the answer before the rest is there.
 * @param key What it depends on, as text.
 * @param concerns Takes the kind and the data of an event.
 */
export function useLive(load, key, { concerns = () => true, everyMs = 15_000 } = {}) {
  const [found, setFound] = useState({ data: null, error: null, key: null });
  const job = useRef({ timer: 0, last: 0, took: 0, abort: null, isDirty: false });
  const latest = useRef(null);
  latest.current = { load, key, concerns };

  const run = useCallback(async () => {
    const mine = job.current;
    clearTimeout(mine.timer);
    mine.abort?.abort();
    const abort = (mine.abort = new AbortController());
    mine.last = performance.now();
    mine.isDirty = false;
    const asked = latest.current.key;
    try {
      const tell = (part) => {
        if (!abort.signal.aborted) setFound((before) => ({ data: { ...(before.key === asked ? before.data : null), ...part }, error: null, key: asked }));
      };
      const data = await latest.current.load(abort.signal, tell);
      if (!abort.signal.aborted) setFound({ data, error: null, key: asked });
    } catch (error) {
      if (error.name === "AbortError") return;
      setFound((before) => ({ data: before.key === asked ? before.data : null, error, key: asked }));
    } finally {
      if (mine.abort === abort) {
        mine.abort = null;
        mine.took = performance.now() - mine.last;
        mine.timer = setTimeout(soon, everyMs);
      }
    }
  }, []);

  const soon = useCallback(() => {
    const mine = job.current;
    if (document.hidden) {
      mine.isDirty = true;
      return;
    }
    clearTimeout(mine.timer);
    mine.timer = setTimeout(() => (mine.abort ? soon() : run()), Math.max(50, mine.last + Math.max(LEAST_MS, SHARE * mine.took) - performance.now()));
  }, []);

  useEffect(() => {
    run();
    return () => {
      const { abort, timer } = job.current;
      job.current.abort = null;
      abort?.abort();
      clearTimeout(timer);
    };
  }, [key]);
  useEvents((kind, data) => {
    if (kind === "reload") run();
    else if (latest.current.concerns(kind, data)) soon();
  });
  useEffect(() => {
    const seenAgain = () => {
      if (!document.hidden && job.current.isDirty) run();
    };
    document.addEventListener("visibilitychange", seenAgain);
    return () => document.removeEventListener("visibilitychange", seenAgain);
  }, []);
  const isOld = found.key !== key;
  return { data: isOld ? null : found.data, error: isOld ? null : found.error, reload: run };
}
