// When a text speaks of self-harm: a kind word and numbers first; gentle songs only for who asks for them, and no feeling named.

import { icon, make } from "./elements.js";
import { language, say } from "./words.js";

const PHONE = "M6 3h4l2 5-3 2a12 12 0 0 0 5 5l2-3 5 2v4a2 2 0 0 1-2 2A17 17 0 0 1 4 5a2 2 0 0 1 2-2Z";

/** `songs` is what to do when they are asked for all the same; where a page has none, none are offered. */
export function careCard(care, songs) {
  const [first, ...more] = (language() === "en" ? care.message_en : care.message).split(/(?<=[.!?]) /);
  return make("section", { class: "card care", tabindex: "-1", "aria-label": say("care.label") },
    make("p", { class: "care-message" }, first),
    make("p", { class: "row wraps" }, care.lines.map(call)),
    make("p", {}, more.join(" ")),
    make("p", { class: "small" }, say("care.private")),
    songs && make("button", { type: "button", class: "plain", onclick: songs }, say("care.songs")));
}

/** One tap calls, on a phone; the first line is the one that stands out. */
function call(line, place) {
  const name = language() === "en" ? line.name_en : line.name;
  return make("a", { class: place ? "button" : "button primary", href: `tel:${line.number.replace(/[^0-9]/g, "")}` }, icon(PHONE), say("care.call", { phone: line.number, name }));
}
