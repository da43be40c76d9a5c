// Today: write, see the four feelings, correct with one tap, listen.

import { call, kindly, tell } from "./api.js";
import { once } from "./elements.js";
import { entryCard, foldedEntry, sentence } from "./entry.js";
import { feltIn } from "./feelings.js";
import { playlist } from "./songs.js";
import { day, number, say, today } from "./words.js";

const LONGEST = 10000;
const page = Object.fromEntries(["write", "text", "day", "teaches", "left", "date", "reading", "earlier", "earlier-entries", "songs", "songs-heading", "playlist"]
  .map((id) => [id, document.getElementById(id)]));
const songs = playlist(page.playlist);
const state = { latest: null, day: "", dated: false }; // the newest entry, the day that the page shows as today, whether the person chose another

function greet() {
  page.date.textContent = day(state.day, { year: "numeric", month: "long", day: "numeric", weekday: "long" });
  count();
}

/** A tab may stay open past midnight: the heading and the day of the next entry follow, and what was written before is no longer of today. */
function follow() {
  if (state.day === today()) return;
  state.day = today();
  if (!state.dated) page.day.value = state.day;
  page["earlier-entries"].replaceChildren();
  page.earlier.hidden = true;
  greet();
}

/** The text lies in this box and nowhere else until it is kept: no draft is written to the browser's disk. */
function count() {
  const left = LONGEST - page.text.value.length;
  page.left.textContent = left < 500 ? `${say("write.left", { left: number(left) })} ` : "";
  page.text.style.setProperty("block-size", "auto");
  page.text.style.setProperty("block-size", `${page.text.scrollHeight + 2}px`);
}

const keep = once(async () => {
  const text = page.text.value.trim();
  if (!text) {
    page.text.focus();
    tell(say("write.empty"));
    return;
  }
  follow();
  const chosen = state.dated && page.day.value ? { day: page.day.value } : {};
  const entry = await kindly(() => call("POST", "/v1/entries", { body: { text, teaches: !page.teaches.checked, ...chosen } }));
  if (!entry) return;
  page.write.reset();
  page.day.value = state.day;
  state.dated = false;
  count();
  if (state.latest && today(new Date(state.latest.written)) === state.day) fold(state.latest);
  show(entry);
  page.reading.querySelector(".when")?.focus({ preventScroll: true });
  page.reading.scrollIntoView({ block: "nearest" });
  tell(entry.reading ? sentence(entry) : say("write.kept"), { unseen: Boolean(entry.reading || entry.care) });
});

function show(entry) {
  felt(entry);
  page.text.rows = 2; // a little less room once today has an entry
  count();
  page.reading.replaceChildren(entryCard(entry, { heading: "h2", changed, songs: asked }));
  offer(entry);
}

function felt(entry) {
  state.latest = entry;
  document.body.dataset.emotion = feltIn(entry) ?? "";
}

/** Songs, but where care comes first only once they are asked for, and gentle ones only. */
function offer(entry) {
  if (entry.care) page.songs.hidden = true;
  else listen(entry);
}

async function listen(entry) {
  if (!entry.care) page.songs.hidden = false; // else the songs of an earlier entry would stand beside this one until its own come
  await songs.load({ entry: entry.number, anyway: Boolean(entry.care) }, entry.care ? "calm" : undefined);
  page.songs.hidden = false;
}

async function asked(entry) {
  await listen(entry);
  page["songs-heading"].focus();
}

function changed(entry, what) {
  if (!entry) {
    state.latest = null;
    page.reading.replaceChildren();
    page.songs.hidden = true;
    delete document.body.dataset.emotion;
    page.text.focus();
    return;
  }
  felt(entry);
  if (what === "edited") offer(entry);
}

function fold(entry) {
  page["earlier-entries"].prepend(foldedEntry(entry));
  page.earlier.hidden = false;
}

async function begin() {
  follow();
  const answer = await kindly(() => call("GET", "/v1/entries", { query: { since: state.day, until: state.day, limit: 20 } }));
  if (!answer?.entries.length) return;
  const [newest, ...others] = answer.entries;
  for (const entry of others.reverse()) fold(entry);
  show(newest);
}

page.write.addEventListener("submit", keep);
page.text.addEventListener("input", count);
page.day.addEventListener("input", () => { state.dated = Boolean(page.day.value); });
page.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) page.write.requestSubmit();
});
window.addEventListener("beforeunload", (event) => {
  if (page.text.value.trim()) event.preventDefault();
});
document.addEventListener("language", greet);
document.addEventListener("visibilitychange", follow);
begin();
