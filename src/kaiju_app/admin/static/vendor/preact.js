// Preact, its hooks, and htm, which writes elements as templates: what the modules of the page use of them.
import { h, render } from "./preact.module.js";
import htm from "./htm.module.js";

export * from "./hooks.module.js";
export { render };
export const html = htm.bind(h);
