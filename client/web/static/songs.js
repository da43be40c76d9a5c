// A playlist: the way it leads, why each song, like, skip, and where to hear it.

import { call, kindly, questions, tell } from "./api.js";
import { icon, make, once, redraw } from "./elements.js";
import { knows, language, say } from "./words.js";

const MODES = ["stay", "shift", "calm"];
const HEART = "M12 20S4 15 4 9.5A4.5 4.5 0 0 1 12 7a4.5 4.5 0 0 1 8 2.5C20 15 12 20 12 20Z";
const SKIP = "M5 5l9 7-9 7zM18 5v14";

/** Songs for what `about` names ({entry, anyway} or {emotion}), in `place`; nothing is asked before `load`. */
export function playlist(place, { count = 8 } = {}) {
  const state = { about: null, mode: "stay", answer: null, skipped: new Set(), liked: new Set() };
  const asked = questions();
  const show = () => redraw(place, modes(state, load), songs(state, show), exits(state, load));
  async function load(about = state.about, mode = state.mode) {
    const overtaken = asked();
    Object.assign(state, { about, mode });
    place.setAttribute("aria-busy", "true");
    const answer = await kindly(() => call("GET", "/v1/recommendations", { query: { ...about, mode, count } }));
    if (overtaken()) return;
    place.removeAttribute("aria-busy");
    Object.assign(state, { answer, skipped: new Set(), liked: new Set() });
    show();
  }
  document.addEventListener("language", () => state.about && place.isConnected && show());
  return { load };
}

/** Where care comes first the songs are a fixed few, and there is no way to choose. */
function modes(state, load) {
  if (state.answer?.care) return make("p", { class: "small" }, say("care.songs.why"));
  return make("fieldset", { class: "modes" }, make("legend", { class: "hidden" }, say("mode.legend")),
    MODES.map((mode) => make("label", { class: "mode" },
      make("input", { type: "radio", name: "mode", value: mode, "data-key": `mode-${mode}`, checked: mode === state.mode, onchange: () => load(state.about, mode) }),
      make("span", {}, say(`mode.${mode}`)))),
    make("p", { class: "small" }, say(`mode.${state.mode}.why`)));
}

function songs(state, show) {
  if (!state.answer) return make("p", { class: "empty" }, say(state.answer === null ? "songs.wait" : "songs.failed"));
  const left = state.answer.songs.filter((song) => !state.skipped.has(song.key));
  if (!left.length) return make("p", { class: "empty" }, say("songs.none"));
  return make("ol", { class: "songs" }, left.map((song, index) => songRow(song, index, state, show)));
}

/** The focus goes to the song that has moved up into a skipped one's place. */
function nextTo(index) {
  const skips = document.querySelectorAll(".songs .skip-song");
  (skips[Math.min(index, skips.length - 1)] ?? document.querySelector("[data-key=again]"))?.focus();
}

function songRow(song, index, state, show) {
  const liked = state.liked.has(song.key);
  const send = (event) => kindly(async () => (await call("POST", "/v1/feedback", { body: { song: song.key, event, playlist: state.answer.id } })) ?? true);
  const like = once(async () => {
    if (!(await send(liked ? "unliked" : "liked"))) return;
    if (liked) state.liked.delete(song.key);
    else state.liked.add(song.key);
    tell(say(liked ? "songs.unliked" : "songs.liked", { title: song.title }));
    show();
  });
  const skip = once(async () => {
    if (!(await send("skipped"))) return;
    state.skipped.add(song.key);
    tell(say("songs.skipped", { title: song.title }));
    show();
    nextTo(index);
  });
  return make("li", { class: "song" },
    make("div", { class: "song-what" }, what(song), make("p", { class: "why" }, language() === "en" ? song.why_en : song.why), links(song, () => send("opened"))),
    make("div", { class: "song-do" },
      make("button", { type: "button", class: "round like", "data-key": `like-${song.key}`, "aria-pressed": String(liked), "aria-label": say("songs.like", { title: song.title }), onclick: like }, icon(HEART)),
      make("button", { type: "button", class: "round skip-song", "data-key": `skip-${song.key}`, "aria-label": say("songs.skip", { title: song.title }), onclick: skip }, icon(SKIP))));
}

export function what(song) {
  return make("p", { class: "song-title" }, make("strong", {}, song.title), " ", make("span", { class: "artist" }, song.artist));
}

export function links(song, opened = () => {}) {
  const own = song.url ? [["url", song.url]] : [];
  const safe = [...own, ...Object.entries(song.links)].filter(([, address]) => /^https?:/i.test(address));
  return make("p", { class: "links" },
    safe.map(([name, address]) => link(knows(`place.${name}`) ? say(`place.${name}`) : name, address, song, opened)),
    song.attribution && make("span", { class: "attribution" }, song.attribution));
}

function link(place, address, song, opened) {
  const label = say("songs.open", { title: song.title, place });
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer", onclick: opened, "aria-label": label }, place);
}

function exits(state, load) {
  return make("div", { class: "row wraps exits" },
    make("button", { type: "button", "data-key": "again", onclick: once(() => load()) }, say("songs.again")),
    state.answer?.songs.length ? make("span", { class: "small" }, say("songs.export")) : null,
    (state.answer?.songs.length ? ["jspf", "xspf", "m3u8"] : []).map((format) =>
      make("a", { class: "plain", href: `/v1/playlists/${encodeURIComponent(state.answer.id)}?format=${format}`, download: `feelinghealing.${format}` }, format.toUpperCase())));
}
