// Today: write, see the four feelings, correct with one tap, listen.

import { call, kindly, tell } from "./api.js";
import { careCard } from "./care.js";
import { once } from "./elements.js";
import { entryCard, foldedEntry, sentence } from "./entry.js";
import { feltIn } from "./feelings.js";
import { playlist } from "./songs.js";
import { day, number, say, today } from "./words.js";

const LONGEST = 10000;
const page = Object.fromEntries(["write", "text", "day", "teaches", "left", "date", "reading", "earlier", "earlier-entries", "songs", "songs-heading", "playlist"]
  .map((id) => [id, document.getElementById(id)]));
const songs = playlist(page.playlist);
let latest = null;

function greet() {
  page.date.textContent = day(today(), { year: "numeric", month: "long", day: "numeric", weekday: "long" });
  count();
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
  const body = { text, day: page.day.value || today(), teaches: !page.teaches.checked };
  const entry = await kindly(() => call("POST", "/v1/entries", { body }));
  if (!entry) return;
  page.write.reset();
  page.day.value = today();
  count();
  if (latest) fold(latest);
  show(entry);
  page.reading.querySelector(".when")?.focus({ preventScroll: true });
  page.reading.scrollIntoView({ block: "nearest" });
  tell(entry.reading ? sentence(entry) : say("write.kept"), { unseen: Boolean(entry.reading) });
});

function show(entry) {
  latest = entry;
  document.body.dataset.emotion = feltIn(entry) ?? "";
  page.text.rows = 2; // a little less room once today has an entry
  count();
  const card = entryCard(entry, { heading: "h2", changed });
  page.reading.replaceChildren(...(entry.care ? [careCard(entry.care, () => asked(entry))] : []), card);
  if (entry.care) page.songs.hidden = true;
  else listen(entry);
}

function listen(entry) {
  page.songs.hidden = false;
  return songs.load({ entry: entry.number, anyway: Boolean(entry.care) }, entry.care ? "calm" : undefined);
}

async function asked(entry) {
  await listen(entry);
  page["songs-heading"].focus();
}

function changed(entry, what) {
  if (!entry) {
    latest = null;
    page.reading.replaceChildren();
    page.songs.hidden = true;
    delete document.body.dataset.emotion;
    page.text.focus();
  } else if (what === "edited") show(entry);
  else {
    latest = entry;
    document.body.dataset.emotion = feltIn(entry) ?? "";
  }
}

function fold(entry) {
  page["earlier-entries"].prepend(foldedEntry(entry));
  page.earlier.hidden = false;
}

async function begin() {
  greet();
  page.day.value = today();
  const answer = await kindly(() => call("GET", "/v1/entries", { query: { since: today(), until: today(), limit: 20 } }));
  if (!answer?.entries.length) return;
  const [newest, ...others] = answer.entries;
  for (const entry of others.reverse()) fold(entry);
  show(newest);
}

page.write.addEventListener("submit", keep);
page.text.addEventListener("input", count);
page.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) page.write.requestSubmit();
});
window.addEventListener("beforeunload", (event) => {
  if (page.text.value.trim()) event.preventDefault();
});
document.addEventListener("language", greet);
begin();
