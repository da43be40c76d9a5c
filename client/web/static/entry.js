// One diary entry: its text, its reading, one tap to correct it, and what else may be done with it.

import { call, kindly, tell } from "./api.js";
import { careCard } from "./care.js";
import { ask, make, once, redraw } from "./elements.js";
import { badge, bars, chips, feltIn, named } from "./feelings.js";
import { day, percent, say, time } from "./words.js";

/** A card that keeps itself up to date, below a word of care where its text calls for one (with `songs` on demand, if the page has any);
    `changed(entry, what)` hears of every change, with null for a forgotten entry. */
export function entryCard(entry, { heading = "h3", changed = () => {}, songs } = {}) {
  const card = make("article", { class: "card entry", "data-number": entry.number });
  const place = make("div", { class: "cared" }, card);
  const show = () => {
    const cared = entry.care && careCard(entry.care, songs && (() => songs(entry)));
    if (card.previousSibling) card.previousSibling.remove();
    if (cared) place.prepend(cared);
    card.dataset.emotion = feltIn(entry) ?? "";
    redraw(card, head(entry, heading), make("p", { class: "text" }, entry.text), reading(entry, act), correction(entry, act), rest(entry, act));
  };
  const act = async (method, path, body, said, what = "changed") => {
    const answer = await kindly(() => call(method, `/v1/entries/${entry.number}${path}`, { body }));
    if (answer === undefined) {
      show(); // what was ticked is not stored, and the box must not say that it is
      return false;
    }
    entry = answer ?? (await kindly(() => call("GET", `/v1/entries/${entry.number}`))) ?? entry;
    show();
    if (said) tell(say(said[0], said[1]));
    changed(entry, what);
    if (what === "edited" && entry.care) place.firstChild.focus();
    return true;
  };
  act.forget = async () => {
    if (!(await sureToForget())) return;
    if ((await kindly(() => call("DELETE", `/v1/entries/${entry.number}`))) === undefined) return;
    tell(say("forget.done"));
    place.remove();
    changed(null, "forgotten");
  };
  act.edit = () => edited(entry, act);
  document.addEventListener("language", () => card.isConnected && show());
  show();
  return place;
}

/** The same entry, folded to one line until it is opened. */
export function foldedEntry(entry, options = {}) {
  const fold = make("details", { class: "fold", "data-key": `entry-${entry.number}` });
  const line = make("summary", {});
  const show = () => line.replaceChildren(
    make("span", { class: "fold-day" }, `${day(entry.day, { month: "short", day: "numeric", weekday: "short" })} · ${time(entry.written)}`),
    make("span", { class: "fold-text" }, entry.text),
    badge(feltIn(entry), { unsure: !entry.emotion && entry.reading?.unsure, ordinary: entry.reading?.ordinary, care: Boolean(entry.care) }));
  const changed = (now, what) => {
    if (now) entry = now;
    else fold.remove();
    show();
    options.changed?.(now, what);
  };
  fold.append(line);
  fold.addEventListener("toggle", () => {
    if (fold.open && fold.children.length === 1) fold.append(entryCard(entry, { ...options, changed }));
  });
  document.addEventListener("language", () => fold.isConnected && show());
  show();
  return fold;
}

function head(entry, heading) {
  const edited = entry.edited ? ` · ${say("entry.edited")}` : "";
  return make("header", { class: "row between" },
    make(heading, { tabindex: "-1", class: "when" }, `${day(entry.day)} · ${time(entry.written)}${edited}`),
    badge(feltIn(entry), { ordinary: entry.reading?.ordinary, care: Boolean(entry.care) }));
}

/** Where care comes first, no feeling is read out; the person may still name their own. */
function reading(entry, act) {
  if (entry.care) return null;
  const again = make("button", { type: "button", class: "plain", "data-key": "again", onclick: once(() => act("POST", "/reading", undefined, ["reading.again.done"])) }, say("reading.again"));
  if (!entry.reading) return make("section", { class: "reading" }, make("p", { class: "quiet" }, say("reading.none")), again);
  return make("section", { class: "reading", "aria-label": say("reading.label") },
    make("p", { class: "sentence" }, sentence(entry)),
    entry.reading.unsure && !entry.emotion && make("p", { class: "small" }, say(entry.reading.ordinary ? "reading.ordinary.kindly" : "reading.kindly")),
    bars(entry.reading.probabilities),
    make("p", { class: "small model" }, say("reading.model", { version: entry.reading.version }), " ", make("code", {}, entry.reading.digest.slice(0, 8)), again));
}

export function sentence(entry) {
  const { emotion, probabilities, unsure, ordinary } = entry.reading;
  if (entry.emotion && entry.emotion !== emotion) return say("reading.corrected", { mine: named(entry.emotion), read: named(emotion) });
  if (entry.emotion) return say("reading.agreed", { mine: named(entry.emotion) });
  if (ordinary) return say("reading.ordinary");
  if (!unsure) return say("reading.sure", { emotion: named(emotion), share: percent(probabilities[emotion]) });
  const [first, second] = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).map(([name]) => named(name));
  return say("reading.between", { first, second });
}

function correction(entry, act) {
  const choose = (feeling) => once(() =>
    act("PUT", "/emotion", { emotion: feeling }, ["correct.done", { emotion: named(feeling) }]));
  return make("fieldset", { class: "correct" },
    make("legend", {}, say(entry.emotion ? "correct.again" : entry.reading ? "correct.ask" : "correct.name")),
    chips(entry.emotion ? [entry.emotion] : [], (feeling, event) => choose(feeling)(event), { key: "correct" }),
    entry.emotion && make("button", { type: "button", class: "plain", "data-key": "undo", onclick: once(() => act("DELETE", "/emotion", undefined, ["correct.undone"])) }, say("correct.undo")));
}

function rest(entry, act) {
  const mix = (feeling) => once(() => {
    const feelings = entry.feelings.includes(feeling) ? entry.feelings.filter((other) => other !== feeling) : [...entry.feelings, feeling];
    return act("PATCH", "", { feelings }, ["mixed.done"]);
  });
  const teaching = make("input", { type: "checkbox", "data-key": "teaches", checked: !entry.teaches,
    onchange: once(async ({ target: { checked: never } }) => {
      if (!(await act("PATCH", "", { teaches: !never }, [never ? "teaches.never" : "teaches.again"]))) tell(say("teaches.failed"));
    }) });
  return make("details", { class: "more", "data-key": "rest" },
    make("summary", {}, say("entry.more")),
    make("fieldset", {}, make("legend", {}, say("mixed.legend")), chips(entry.feelings, (feeling, event) => mix(feeling)(event), { key: "mixed" })),
    make("label", { class: "switch" }, teaching, make("span", {}, say("write.never"))),
    make("p", { class: "small" }, say("write.never.why")),
    make("div", { class: "row" },
      make("button", { type: "button", "data-key": "edit", onclick: once(act.edit) }, say("edit.open")),
      make("button", { type: "button", class: "danger", "data-key": "forget", onclick: once(act.forget) }, say("forget.open"))));
}

/** What could not be stored is kept in `act.draft` for the next try. */
async function edited(entry, act) {
  const text = make("textarea", { id: "edit-text", rows: "8", maxlength: "10000", spellcheck: "false", autocomplete: "off", required: true });
  text.value = act.draft?.text ?? entry.text;
  const when = make("input", { id: "edit-day", type: "date", value: act.draft?.day ?? entry.day, required: true });
  const choice = await ask(say("edit.title"), [
    make("label", { for: "edit-text" }, say("today.text")), text,
    make("label", { for: "edit-day" }, say("write.day")), when,
    make("p", { class: "small" }, say("edit.why")),
  ], [
    make("button", { value: "keep", class: "primary" }, say("edit.keep")), // the first one: Enter in the date presses it
    make("button", { type: "button", onclick: ({ target }) => target.closest("dialog").close("") }, say("cancel")),
  ]);
  act.draft = null;
  if (choice !== "keep") return;
  const body = {};
  if (text.value !== entry.text) body.text = text.value;
  if (when.value !== entry.day) body.day = when.value;
  if (!Object.keys(body).length) return;
  if (!(await act("PATCH", "", body, ["edit.done"], "edited"))) act.draft = { text: text.value, day: when.value };
}

async function sureToForget() {
  const choice = await ask(say("forget.title"), [
    make("p", {}, say("forget.here")), make("p", {}, say("forget.past")), make("p", { class: "small" }, say("forget.promise")),
  ], [
    make("button", { value: "", autofocus: true }, say("cancel")),
    make("button", { value: "forget", class: "danger" }, say("forget.sure")),
  ]);
  return choice === "forget";
}
