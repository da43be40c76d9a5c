// The four feelings: bars with their share, a badge with its name. Colour never stands alone.

import { make } from "./elements.js";
import { percent, say } from "./words.js";

export const FEELINGS = ["joy", "sadness", "anger", "anxiety"];

export const named = (feeling) => say(`emotion.${feeling}`);

/** What the person said, else what the model read, else null: nothing was read yet, or an ordinary day. */
export const feltIn = (entry) => entry.emotion ?? (entry.reading?.ordinary ? null : entry.reading?.emotion) ?? null;

export function swatch(feeling) {
  return make("span", { class: "swatch", "data-emotion": feeling, "aria-hidden": "true" });
}

export function badge(feeling, { unsure = false, ordinary = false, care = false } = {}) {
  if (!feeling) return make("span", { class: "badge" }, say(care ? "care.badge" : ordinary ? "reading.ordinary.badge" : "entry.unread"));
  return make("span", { class: "badge", "data-emotion": feeling }, swatch(feeling), named(feeling), unsure ? ` · ${say("reading.unsure")}` : "");
}

export function bars(probabilities) {
  return make("ul", { class: "bars" }, FEELINGS.map((feeling) => bar(feeling, probabilities[feeling])));
}

function bar(feeling, share) {
  const fill = make("span", { class: "fill" });
  requestAnimationFrame(() => fill.style.setProperty("inline-size", `${Math.max(100 * share, 0.8)}%`));
  return make("li", { "data-emotion": feeling },
    make("span", { class: "name" }, named(feeling)),
    make("span", { class: "track", "aria-hidden": "true" }, fill),
    make("span", { class: "share" }, percent(share)));
}

/** Buttons for the four feelings; `chosen` are pressed. */
export function chips(chosen, choose, { key }) {
  return make("div", { class: "chips" }, FEELINGS.map((feeling) =>
    make("button", {
      type: "button", class: "chip", "data-emotion": feeling, "data-key": `${key}-${feeling}`,
      "aria-pressed": String(chosen.includes(feeling)), onclick: (event) => choose(feeling, event),
    }, swatch(feeling), named(feeling))));
}
