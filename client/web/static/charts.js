// Charts as SVG. Every line and mark has a shape of its own beside its colour, and every chart its numbers in a table.

import { draw, make } from "./elements.js";
import { FEELINGS, named } from "./feelings.js";
import { day, percent, say } from "./words.js";

const DASHES = { joy: null, sadness: "7 4", anger: "2 4", anxiety: "10 3 2 3" };
const SHORT = { month: "numeric", day: "numeric" };

/** Weekly shares of the four feelings: [{monday, probabilities}]. */
export function trend(weeks, width) {
  const wide = Math.max(width, 260), tall = 240, left = 38, right = 58, top = 12, foot = 28;
  const x = (index) => left + (weeks.length < 2 ? 0.5 : index / (weeks.length - 1)) * (wide - left - right);
  const most = Math.ceil(4 * Math.max(0.5, ...weeks.flatMap((week) => Object.values(week.probabilities)))) / 4;
  const y = (share) => top + (1 - share / most) * (tall - top - foot);
  const figure = draw("svg", { class: "chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, role: "img", "aria-label": trendSaid(weeks) });
  for (let share = 0; share <= most; share += 0.25) {
    figure.append(draw("line", { class: "grid", x1: left, x2: wide - right, y1: y(share), y2: y(share) }), label(percent(share), left - 6, y(share) + 4, "end"));
  }
  const every = Math.ceil(weeks.length / Math.max(2, Math.floor((wide - left - right) / 64)));
  weeks.forEach((week, index) => index % every === 0 && figure.append(label(day(week.monday, SHORT), x(index), tall - 8, "middle")));
  for (const feeling of FEELINGS) {
    const points = weeks.map((week, index) => [x(index), y(week.probabilities[feeling])]);
    figure.append(draw("polyline", { class: "line", "data-emotion": feeling, points: points.map((point) => point.join()).join(" "), "stroke-dasharray": DASHES[feeling] }));
    figure.append(...points.map(([across, down]) => mark(feeling, across, down, 3.5)));
  }
  figure.append(...ends(weeks.at(-1), y, wide - right + 8));
  return figure;
}

function trendSaid(weeks) {
  const last = weeks.at(-1);
  return say("trend.said", { weeks: weeks.length, last: FEELINGS.map((feeling) => `${named(feeling)} ${percent(last.probabilities[feeling])}`).join(", ") });
}

/** The names beside the lines' ends, moved apart where they would overlap. */
function ends(week, y, across) {
  const placed = FEELINGS.map((feeling) => ({ feeling, down: y(week.probabilities[feeling]) })).sort((a, b) => a.down - b.down);
  placed.forEach((one, index) => index && (one.down = Math.max(one.down, placed[index - 1].down + 15)));
  const over = Math.max(0, placed.at(-1).down - y(0));
  return placed.map(({ feeling, down }) => label(named(feeling), across, down - over + 4, "start", "end"));
}

function label(text, x, y, anchor, kind = "tick") {
  return draw("text", { class: kind, x, y, "text-anchor": anchor }, text);
}

function mark(feeling, x, y, size) {
  const shapes = {
    joy: () => draw("circle", { cx: x, cy: y, r: size }),
    sadness: () => draw("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, rx: 1 }),
    anger: () => draw("path", { d: `M${x} ${y - 1.2 * size}l${1.2 * size} ${2.2 * size}h${-2.4 * size}z` }),
    anxiety: () => draw("path", { d: `M${x} ${y - 1.4 * size}l${1.4 * size} ${1.4 * size}l${-1.4 * size} ${1.4 * size}l${-1.4 * size} ${-1.4 * size}z` }),
  };
  const shape = shapes[feeling]();
  shape.setAttribute("class", "mark");
  shape.setAttribute("data-emotion", feeling);
  return shape;
}

/** Entries by likeness: [{number, day, x, y, emotion}], each a link to its day. */
export function map(points, width) {
  const side = Math.min(Math.max(width, 260), 460), inset = 18;
  const place = (values) => {
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    return (value) => inset + (value - low) / span * (side - 2 * inset);
  };
  const x = place(points.map((point) => point.x)), y = place(points.map((point) => point.y));
  const figure = draw("svg", { class: "chart map", viewBox: `0 0 ${side} ${side}`, width: side, height: side, role: "group", "aria-label": say("map.said", { count: points.length }) });
  figure.append(draw("rect", { class: "ground", x: 1, y: 1, width: side - 2, height: side - 2, rx: 14 }));
  for (const point of points) {
    const name = say("map.point", { day: day(point.day), feeling: named(point.emotion) });
    figure.append(draw("a", { href: `/diary?day=${point.day}`, "aria-label": name }, draw("title", {}, name), mark(point.emotion, x(point.x), y(point.y), 6)));
  }
  return figure;
}

/** The key to marks and colours. */
export function key() {
  return make("ul", { class: "legend" }, FEELINGS.map((feeling) =>
    make("li", {}, draw("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, mark(feeling, 8, 8, 4.5)), named(feeling))));
}

export function table(columns, rows, title = say("chart.table")) {
  return make("details", { class: "more", "data-key": `table-${columns[0]}` }, make("summary", {}, title),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, make("table", { class: "table" },
      make("thead", {}, make("tr", {}, columns.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, rows.map((row) => make("tr", {}, row.map((value) => make("td", {}, String(value)))))))));
}
