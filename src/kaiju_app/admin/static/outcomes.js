// What there is to tell of a tick: one word, one sentence, one glyph and one colour each, the same everywhere on the page.
// The colours (Okabe-Ito, which colour-blind people can tell apart) are in style.css: --succeeded, --failed and so on.
// The glyph says the same without any colour.
import { html } from "./vendor/preact.js";

export const OUTCOMES = {
  SUCCEEDED: { label: "succeeded", tone: "succeeded" },
  FAILED: { label: "failed", tone: "failed" },
  TIMED_OUT: { label: "timed out", tone: "timed-out" },
  CANCELLED: { label: "cancelled", tone: "cancelled" },
  SKIPPED: { label: "skipped", tone: "skipped" },
  LOST: { label: "lost", tone: "lost" },
  RUNNING: { label: "running", tone: "running" },
};

export const STATES = ["running", "waiting", "paused", "suspended", "hung", "disabled", "stopped", "over", "unknown"];
export const BAD = ["FAILED", "TIMED_OUT", "LOST"];

const GLYPHS = {
  succeeded: html`<circle cx="8" cy="8" r="7" fill="currentColor" /><path class="in" d="M4.7 8.3l2.2 2.2 4.4-4.6" />`,
  failed: html`<rect x="1" y="1" width="14" height="14" rx="2" fill="currentColor" /><path class="in" d="M5 5l6 6M11 5l-6 6" />`,
  "timed-out": html`<circle cx="8" cy="8" r="6.2" class="out" /><path class="out" d="M8 4.3V8l2.6 1.7" />`,
  cancelled: html`<circle cx="8" cy="8" r="6.2" class="out" /><path class="out" d="M3.8 12.2l8.4-8.4" />`,
  skipped: html`<path class="out" d="M8 2l6 6-6 6-6-6z" />`,
  lost: html`<circle cx="8" cy="8" r="6.2" class="out" stroke-dasharray="2.6 2.2" /><path class="out" d="M8 5v3.4M8 10.6v.8" />`,
  running: html`<path d="M3.5 2l10 6-10 6z" fill="currentColor" />`,
};

export function toneOf(outcome) {
  return (OUTCOMES[outcome] || OUTCOMES.SKIPPED).tone;
}

export function labelOf(outcome) {
  return (OUTCOMES[outcome] || { label: String(outcome) }).label;
}

export function Glyph({ outcome, size = 14 }) {
  const tone = toneOf(outcome);
  return html`<svg class=${`glyph tone-${tone}`} width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true"
    focusable="false">${GLYPHS[tone]}</svg>`;
}

/** An outcome in words, with its glyph; for skips with their reason and number. */
export function OutcomeText({ run }) {
  const what = labelOf(run.outcome);
  const reason = run.reason ? `: ${run.reason}` : "";
  const count = run.count > 1 || run.more ? ` ×${run.count}${run.more ? " or more" : ""}` : "";
  return html`<span class=${`outcome text-${toneOf(run.outcome)}`}><${Glyph} outcome=${run.outcome} />${what}${reason}${count}</span>`;
}

/** The last outcomes, the oldest first: what is good is low, what is bad is high, what did not run is hollow. */
export function Sparkline({ outcomes }) {
  if (!outcomes.length) return html`<span class="muted">no runs yet</span>`;
  const bad = outcomes.filter((each) => BAD.includes(each)).length;
  const skipped = outcomes.filter((each) => each === "SKIPPED").length;
  const said = `Last ${outcomes.length}: ${bad} bad, ${skipped} skipped`;
  const x0 = (30 - outcomes.length) * 4;
  const paths = new Map(); // One for each tone: a table may show a thousand of these bars.
  outcomes.forEach((each, i) => {
    const tone = toneOf(each);
    paths.set(tone, (paths.get(tone) || "") + spark(tone, x0 + i * 4));
  });
  return html`<svg class="spark" width="120" height="18" viewBox="0 0 120 18" role="img" aria-label=${said}>
    ${[...paths].map(([tone, path]) => html`<path class=${tone === "skipped" ? "hollow" : `fill-${tone}`} d=${path} />`)}
  </svg>`;
}

const rect = (x, y, width, height) => `M${x} ${y}h${width}v${height}h${-width}z`;

function spark(tone, x) {
  if (tone === "skipped") return rect(x + 0.5, 12.5, 2, 4);
  if (tone === "succeeded") return rect(x, 9, 3, 8);
  if (tone === "cancelled") return rect(x, 5, 3, 4) + rect(x, 11, 3, 6);
  return rect(x, 1, 3, 16);
}
