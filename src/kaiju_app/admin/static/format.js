// Instants and durations as people read them. Everything takes milliseconds since 1970, or seconds for durations.

const formats = new Map();

function format(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", { ...options, hourCycle: "h23", timeZone: zone === "utc" ? "UTC" : undefined }));
  }
  return formats.get(key);
}

const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const MINUTE = { hour: "2-digit", minute: "2-digit" };
const DAY = { day: "numeric", month: "short" };

export const localZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "local";

export const ms = (iso) => (iso ? Date.parse(iso) : null);
export const iso = (moment) => new Date(moment).toISOString();

export const time = (moment, zone) => format(zone, TIME).format(moment);
export const minute = (moment, zone) => format(zone, MINUTE).format(moment);
export const day = (moment, zone) => format(zone, { ...DAY, weekday: "short" }).format(moment);

/** The whole instant, to be sure of it. */
export function full(moment, zone) {
  const parts = Object.fromEntries(
    format(zone, { year: "numeric", month: "2-digit", day: "2-digit", ...TIME, timeZoneName: "short" })
      .formatToParts(moment).map((each) => [each.type, each.value]),
  );
  return `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second} ${parts.timeZoneName}`;
}

/** The time alone if it is of today, otherwise with its day. */
export function short(moment, zone, now = Date.now()) {
  const date = format(zone, DAY).format(moment);
  return date === format(zone, DAY).format(now) ? time(moment, zone) : `${date} ${minute(moment, zone)}`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (s < 0.0000005) return "0 s";
  if (s < 0.001) return `${sign}${Math.round(s * 1e6)} µs`;
  if (s < 0.01) return `${sign}${(s * 1000).toFixed(1)} ms`;
  if (s < 0.9995) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 10) return `${sign}${s.toFixed(1).replace(/\.0$/, "")} s`;
  const whole = Math.round(s);
  for (let i = 0; i < UNITS.length; i += 1) {
    const [name, size] = UNITS[i];
    if (whole < size) continue;
    const rest = UNITS[i + 1] ? Math.floor((whole % size) / UNITS[i + 1][1]) : 0;
    return `${sign}${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${UNITS[i + 1][0]}` : ""}`;
  }
  return "0 s";
}

/** How far an instant is from now, in whole seconds below a minute. */
export function relative(moment, now) {
  const s = (moment - now) / 1000;
  const rounded = Math.abs(s) < 60 ? Math.round(s) : Math.trunc(s);
  if (Math.abs(rounded) < 1) return "now";
  const size = duration(Math.abs(rounded));
  return rounded > 0 ? `in ${size}` : `${size} ago`;
}

export const plural = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
