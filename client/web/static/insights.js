// Insights: how the weeks went, how long a bad day lasts, which words go with which feeling, which entries are alike.

import { call, kindly } from "./api.js";
import { key, map, table, trend } from "./charts.js";
import { make, redraw } from "./elements.js";
import { FEELINGS, named } from "./feelings.js";
import { day, number, percent, say, today } from "./words.js";

const page = Object.fromEntries(["period", "panels", "none", "trend", "recovery", "map", "cloud"].map((id) => [id, document.getElementById(id)]));
const state = { found: null };

function since(days) {
  if (days === "all") return "";
  const from = new Date();
  from.setDate(from.getDate() - Number(days));
  return today(from);
}

async function look(days) {
  for (const button of page.period.children) button.setAttribute("aria-pressed", String(button.dataset.days === days));
  page.panels.setAttribute("aria-busy", "true");
  state.found = await kindly(() => call("GET", "/v1/insights", { query: { since: since(days) } }));
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
    each.map((week) => [day(week.start, { month: "short", day: "numeric" }), ...FEELINGS.map((feeling) => percent(week.probabilities[feeling]))])));
}

function recovery({ median, times }) {
  if (!times.length) return page.recovery.replaceChildren(make("p", { class: "empty" }, say("recovery.none")));
  const rows = times.map((one) => make("li", {},
    make("span", { class: "name" }, day(one.start, { month: "short", day: "numeric" })),
    make("span", { class: "track", "aria-hidden": "true" }, fill(one.days / Math.max(...times.map((each) => each.days)))),
    make("span", { class: "share" }, say("recovery.days", { days: number(one.days) }))));
  return page.recovery.replaceChildren(
    make("p", { class: "figure" }, say("recovery.median", { days: number(median, 1) })), make("ul", { class: "bars days" }, rows.slice(-8)));
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

/** Words by feeling; the larger the oftener, and the count stands beside each. */
function cloud(words) {
  page.cloud.replaceChildren(make("div", { class: "clouds" }, FEELINGS.map((feeling) => {
    const each = words[feeling] ?? [];
    const most = Math.max(1, ...each.map((one) => one.count));
    return make("section", { "data-emotion": feeling, class: "cloud" }, make("h3", {}, named(feeling)),
      each.length ? make("ul", {}, each.slice(0, 24).map((one) => word(one, most))) : make("p", { class: "quiet small" }, say("words.none")));
  })));
}

function word({ word: text, count }, most) {
  const item = make("li", {}, text, make("span", { class: "times" }, number(count)));
  item.style.setProperty("font-size", `${(0.875 + 0.95 * Math.sqrt((count - 1) / Math.max(most - 1, 1))).toFixed(2)}rem`);
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
