// Music: songs for a feeling, the whole catalogue, and what a person brings along.

import { call, kindly, questions, tell } from "./api.js";
import { make, once, redraw } from "./elements.js";
import { FEELINGS, named, swatch } from "./feelings.js";
import { links, playlist, what } from "./songs.js";
import { number, say } from "./words.js";

const page = Object.fromEntries(["feeling", "playlist", "find", "song", "songs-found", "found-songs", "listens", "listens-file", "own-songs", "songs-file"]
  .map((id) => [id, document.getElementById(id)]));
const songs = playlist(page.playlist, { count: 12 });
const asked = questions();
const state = { feeling: "joy", found: null };

function feelings() {
  redraw(page.feeling, FEELINGS.map((feeling) => make("button", {
    type: "button", class: "chip", "data-emotion": feeling, "data-key": feeling, "aria-pressed": String(feeling === state.feeling), onclick: () => choose(feeling),
  }, swatch(feeling), named(feeling))));
}

function choose(feeling) {
  state.feeling = feeling;
  feelings();
  return songs.load({ emotion: feeling });
}

async function find() {
  const overtaken = asked();
  const answer = await kindly(() => call("GET", "/v1/songs", { query: { text: page.song.value.trim(), limit: 10 } }));
  if (!answer || overtaken()) return;
  state.found = answer;
  found();
}

function found() {
  page["songs-found"].textContent = say("music.found", { count: number(state.found.total) });
  page["found-songs"].replaceChildren(...state.found.songs.map((song) => make("li", { class: "song" }, make("div", { class: "song-what" }, what(song), links(song)))));
}

/** A file goes to this device's API as it is, piece by piece; the browser keeps no copy. */
function importer(form, input, path, said) {
  form.addEventListener("submit", once(async () => {
    const file = input.files[0];
    if (!file) return;
    const answer = await kindly(() => call("POST", path, { file }));
    if (!answer) return;
    form.reset();
    tell(said(answer));
  }));
}

page.find.addEventListener("submit", once(find));
importer(page.listens, page["listens-file"], "/v1/listens/import", (answer) => say("listens.done", { imported: number(answer.imported), skipped: number(answer.skipped) }));
importer(page["own-songs"], page["songs-file"], "/v1/songs/import", (answer) => say("own.done", { imported: number(answer.imported) }));
document.addEventListener("language", () => {
  feelings();
  if (state.found) found();
});

choose(state.feeling);
find();
