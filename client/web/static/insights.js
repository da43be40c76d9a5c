// Insights: how the weeks went, how long a bad day lasts, which words go with which feeling, which entries are alike.

import { call, kindly, questions } from "./api.js";
import { key, map, table, trend } from "./charts.js";
import { make, redraw } from "./elements.js";
import { FEELINGS, named } from "./feelings.js";
import { day, number, percent, say, today } from "./words.js";

const page = Object.fromEntries(["period", "panels", "none", "trend", "recovery", "map", "cloud"].map((id) => [id, document.getElementById(id)]));
const state = { found: null };
const asked = questions();
const LONG = 7;

function since(days) {
  if (days === "all") return "";
  const from = new Date();
  from.setDate(from.getDate() - Number(days));
  return today(from);
}

async function look(days) {
  for (const button of page.period.children) button.setAttribute("aria-pressed", String(button.dataset.days === days));
  page.panels.setAttribute("aria-busy", "true");
  const overtaken = asked();
  const found = await kindly(() => call("GET", "/v1/insights", { query: { since: since(days) } }));
  if (overtaken()) return;
  state.found = found;
  page.panels.removeAttribute("aria-busy");
  show();
}

function show() {
  const found = state.found;
  const empty = !found?.trend.length;
  page.none.hidden = !found || !empty;
  page.panels.hidden = empty;
  if (empty) return;
  weeks(found.trend);
  recovery(found.recovery);
  likeness(found.map);
  cloud(found.words);
}

function weeks(each) {
  redraw(page.trend, trend(each, page.trend.clientWidth), table([say("trend.week"), ...FEELINGS.map(named)],
    each.map((week) => [day(week.monday, { month: "short", day: "numeric" }), ...FEELINGS.map((feeling) => percent(week.probabilities[feeling]))])));
}

/** How many hard spells lasted so many days; long ones share the last row. */
function recovery({ days, median, bad_since: since }) {
  const still = since && make("p", { class: "small" }, say("recovery.still", { day: day(since, { month: "long", day: "numeric" }) }));
  if (!days.length) return page.recovery.replaceChildren(...[make("p", { class: "empty" }, say("recovery.none")), still].filter(Boolean));
  const spells = [1, 2, 3, 4, 5, 6, LONG].map((length) => days.filter((each) => Math.min(each, LONG) === length).length);
  const rows = spells.map((count, index) => make("li", {},
    make("span", { class: "name" }, say(index + 1 === LONG ? "recovery.longer" : "recovery.days", { days: number(index + 1) })),
    make("span", { class: "track", "aria-hidden": "true" }, fill(count / Math.max(...spells))),
    make("span", { class: "share" }, say("recovery.times", { count: number(count) }))));
  return page.recovery.replaceChildren(...[
    make("p", { class: "figure" }, say("recovery.median", { days: number(median, 1) })), make("ul", { class: "bars days" }, rows), still].filter(Boolean));
}

function fill(share) {
  const bar = make("span", { class: "fill" });
  bar.style.setProperty("inline-size", `${100 * share}%`);
  return bar;
}

function likeness(points) {
  if (points.length < 3) return page.map.replaceChildren(make("p", { class: "empty" }, say("map.none")));
  return redraw(page.map, key(), map(points, page.map.clientWidth));
}

/** Words by feeling; the more entries hold one the larger it is, and their count stands beside it. */
function cloud(words) {
  if (!words) return page.cloud.replaceChildren(make("p", { class: "empty" }, say("words.missing")), make("p", {}, make("code", {}, "pip install 'feelinghealing[insights]'")));
  return page.cloud.replaceChildren(make("div", { class: "clouds" }, FEELINGS.map((feeling) => {
    const most = Math.max(2, ...words[feeling].map((one) => one.entries));
    return make("section", { "data-emotion": feeling, class: "cloud" }, make("h3", {}, named(feeling)),
      words[feeling].length ? make("ul", {}, words[feeling].slice(0, 24).map((one) => word(one, most))) : make("p", { class: "quiet small" }, say("words.none")));
  })));
}

function word({ word: text, entries }, most) {
  const item = make("li", {}, text, make("span", { class: "times" }, number(entries)));
  item.style.setProperty("font-size", `${(0.9375 + 0.9 * Math.sqrt((entries - 1) / (most - 1))).toFixed(2)}rem`);
  return item;
}

for (const button of page.period.children) button.addEventListener("click", () => look(button.dataset.days));
document.addEventListener("language", show);
let width = innerWidth;
addEventListener("resize", () => requestAnimationFrame(() => {
  if (width !== innerWidth) show();
  width = innerWidth;
}));
look("90");
