// Diary: a month in colours, search, and every entry to read, mend or forget.

import { call, kindly, questions } from "./api.js";
import { make, redraw } from "./elements.js";
import { foldedEntry } from "./entry.js";
import { FEELINGS, feltIn, named, swatch } from "./feelings.js";
import { day, number, say, today } from "./words.js";

const PAGE = 20;
const page = Object.fromEntries(["earlier-month", "later-month", "month", "calendar", "legend", "search", "words", "emotion", "found", "all", "entries", "more"]
  .map((id) => [id, document.getElementById(id)]));
const state = { year: 0, month: 0, felt: new Map(), query: {}, shown: 0, total: 0 };

const looked = questions(), searched = questions();

const iso = (date) => today(new Date(state.year, state.month, date));
const lastDate = () => new Date(state.year, state.month + 1, 0).getDate();

async function everyEntryOfTheMonth() {
  const found = [];
  for (let offset = 0; ; offset += 100) {
    const answer = await kindly(() => call("GET", "/v1/entries", { query: { since: iso(1), until: iso(lastDate()), limit: 100, offset } }));
    found.push(...(answer?.entries ?? []));
    if (!answer || offset + 100 >= answer.total) return found;
  }
}

/** What each day felt like: its last entry that has a feeling says so. */
async function look() {
  const overtaken = looked();
  const entries = await everyEntryOfTheMonth();
  if (overtaken()) return;
  state.felt = new Map();
  for (const entry of entries.sort((a, b) => a.written.localeCompare(b.written))) {
    const { count, feeling } = state.felt.get(entry.day) ?? { count: 0, feeling: null };
    state.felt.set(entry.day, { count: count + 1, feeling: feltIn(entry) ?? feeling });
  }
  calendar();
}

function calendar() {
  const first = new Date(state.year, state.month, 1);
  page.month.textContent = day(iso(1), { year: "numeric", month: "long" });
  const weekdays = [...Array(7).keys()].map((each) => new Date(2023, 0, 1 + each)); // a Sunday begins
  const cells = [...Array(first.getDay()).fill(null), ...[...Array(lastDate()).keys()].map((each) => each + 1)];
  const weeks = [...Array(Math.ceil(cells.length / 7)).keys()].map((week) => [...Array(7).keys()].map((each) => cells[7 * week + each] ?? null));
  redraw(page.calendar, make("table", { class: "month" },
    make("caption", { class: "hidden" }, page.month.textContent),
    make("thead", {}, make("tr", {}, weekdays.map((weekday) => make("th", { scope: "col", abbr: weekdayName(weekday, "long") }, weekdayName(weekday, "narrow"))))),
    make("tbody", {}, weeks.map((week) => make("tr", {}, week.map(cell))))));
  page.legend.replaceChildren(...FEELINGS.map((feeling) => make("li", {}, swatch(feeling), named(feeling))));
}

const weekdayName = (date, weekday) => day(today(date), { weekday });

function cell(date) {
  if (!date) return make("td", { class: "outside" });
  const felt = state.felt.get(iso(date));
  const now = iso(date) === today() ? "date" : null;
  if (!felt) return make("td", {}, make("span", { class: "day", "aria-current": now }, String(date)));
  const name = felt.feeling ? named(felt.feeling) : say("entry.unread");
  const chosen = state.query.since === iso(date) && state.query.until === iso(date);
  return make("td", {}, make("button", {
    type: "button", class: "day felt", "data-emotion": felt.feeling, "data-key": iso(date), "aria-current": now, "aria-pressed": String(chosen),
    "aria-label": say("calendar.day", { day: day(iso(date)), feeling: name, count: felt.count }), onclick: () => choose(iso(date)),
  }, make("span", {}, String(date)), make("span", { class: "feeling" }, name)));
}

function choose(date) {
  search({ since: date, until: date });
  calendar();
}

async function search(query) {
  state.query = query;
  page.all.hidden = Object.values(query).every((value) => !value);
  await fetchPage(0);
}

async function fetchPage(offset) {
  const overtaken = searched();
  const answer = await kindly(() => call("GET", "/v1/entries", { query: { ...state.query, limit: PAGE, offset } }));
  if (!answer || overtaken()) return;
  state.total = answer.total;
  state.shown = offset + answer.entries.length;
  const folds = answer.entries.map((entry) => foldedEntry(entry, { changed: (_, what) => reconsider(what) }));
  if (offset) page.entries.append(...folds);
  else page.entries.replaceChildren(...folds);
  if (folds.length === 1) folds[0].open = true;
  if (offset) folds[0]?.querySelector("summary").focus();
  told();
}

function told() {
  const { since, until } = state.query;
  page.found.textContent = state.total === 0 ? say("entries.none")
    : since && since === until ? say("entries.day", { day: day(since), count: number(state.total) })
      : say("entries.found", { count: number(state.total) });
  page.more.hidden = state.shown >= state.total;
}

function reconsider(what) {
  if (what === "forgotten") {
    state.total -= 1;
    state.shown -= 1;
    told();
    page.found.tabIndex = -1;
    page.found.focus();
  }
  look();
}

function turn(months) {
  const date = new Date(state.year, state.month + months, 1);
  Object.assign(state, { year: date.getFullYear(), month: date.getMonth(), felt: new Map() });
  calendar();
  return look();
}

function choices() {
  const chosen = page.emotion.value;
  page.emotion.replaceChildren(make("option", { value: "" }, say("search.any")), ...FEELINGS.map((feeling) => make("option", { value: feeling }, named(feeling))));
  page.emotion.value = chosen;
}

page["earlier-month"].addEventListener("click", () => turn(-1));
page["later-month"].addEventListener("click", () => turn(1));
page.search.addEventListener("submit", (event) => {
  event.preventDefault();
  search({ text: page.words.value.trim(), emotion: page.emotion.value });
  calendar();
});
page.all.addEventListener("click", () => {
  page.search.reset();
  search({});
  calendar();
  page.words.focus();
});
page.more.addEventListener("click", () => fetchPage(state.shown));
document.addEventListener("language", () => {
  choices();
  calendar();
  told();
});

const now = new Date();
Object.assign(state, { year: now.getFullYear(), month: now.getMonth() });
choices();
calendar();
look();
const asked = new URLSearchParams(location.search).get("day");
await search(asked ? { since: asked, until: asked } : {});
const meant = page.entries.querySelector(`[data-key="${CSS.escape(location.hash.slice(1))}"]`);
if (meant) {
  meant.open = true;
  meant.querySelector("summary").focus();
}
