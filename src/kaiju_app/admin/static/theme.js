// Before the first paint, so that a dark page does not flash white.
try {
  const kept = localStorage.getItem("kaiju.theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // Storage is forbidden here: the theme of the system is used.
}
