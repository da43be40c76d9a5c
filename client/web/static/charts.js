// Charts as SVG. Every mark has a shape of its own beside its colour, every line its own row and name, and the numbers stand in a table.

import { draw, make } from "./elements.js";
import { FEELINGS, named } from "./feelings.js";
import { day, percent, say } from "./words.js";

const SHORT = { month: "numeric", day: "numeric" };
const ROW = 62;

/** Weekly shares of the four feelings, a row for each: [{monday, probabilities}]. */
export function trend(weeks, width) {
  const wide = Math.max(width, 260), left = 58, right = 44, foot = 24, tall = 4 * ROW + foot;
  const x = (index) => left + (weeks.length < 2 ? 1 : index / (weeks.length - 1)) * (wide - left - right);
  const most = Math.max(0.4, ...weeks.flatMap((week) => Object.values(week.probabilities)));
  const figure = draw("svg", { class: "chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, role: "img", "aria-label": trendSaid(weeks) });
  FEELINGS.forEach((feeling, row) => {
    const ground = (row + 1) * ROW - 8;
    const points = weeks.map((week, index) => [x(index), ground - week.probabilities[feeling] / most * (ROW - 18)]);
    figure.append(...shares(feeling, points, ground, left, wide - right), label(named(feeling), 0, ground - 4, "start", "end"),
      label(percent(weeks.at(-1).probabilities[feeling]), wide - right + 9, points.at(-1)[1] + 4, "start"));
  });
  const every = Math.ceil(weeks.length / Math.max(2, Math.floor((wide - left - right) / 64)));
  weeks.forEach((week, index) => index % every === 0 && figure.append(label(day(week.monday, SHORT), x(index), tall - 6, "middle")));
  return figure;
}

function shares(feeling, points, ground, from, to) {
  const line = points.map((point) => point.join()).join(" ");
  const last = points.at(-1);
  return [
    draw("line", { class: "grid", x1: from, x2: to, y1: ground, y2: ground }),
    draw("polygon", { class: "area", "data-emotion": feeling, points: `${points[0][0]},${ground} ${line} ${last[0]},${ground}` }),
    draw("polyline", { class: "line", "data-emotion": feeling, points: line }),
    mark(feeling, ...last, 4),
  ];
}

function trendSaid(weeks) {
  const last = weeks.at(-1);
  return say("trend.said", { weeks: weeks.length, last: FEELINGS.map((feeling) => `${named(feeling)} ${percent(last.probabilities[feeling])}`).join(", ") });
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

/** Entries by likeness: [{number, day, x, y, emotion}], each a link to its entry. */
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
    figure.append(draw("a", { href: `/diary?day=${point.day}#entry-${point.number}`, "aria-label": name }, draw("title", {}, name), mark(point.emotion, x(point.x), y(point.y), 6)));
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
