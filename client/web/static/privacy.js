// Privacy: what leaves this device, what was spent, who decides, and which model reads.

import { call, kindly, tell } from "./api.js";
import { table } from "./charts.js";
import { ask, make, once, redraw } from "./elements.js";
import { takingIn, takingOut } from "./transfer.js";
import { day, number, percent, say, time, today } from "./words.js";

const page = Object.fromEntries(["panels", "sent", "budget", "participation", "model", "rounds"].map((id) => [id, document.getElementById(id)]));
const state = { privacy: null, model: null };
const FIRST = 1; // the version that every Home is made with: its date is that of the program, not of an arrival

function show() {
  if (state.privacy) {
    sent(state.privacy);
    budget(state.privacy);
    participation(state.privacy.participation);
    rounds(state.privacy.rounds, state.privacy.sent.messages);
  }
  if (state.model) model(state.model);
}

/** By this device's own policy: where it allows rounds without protection, the bare truth about them. */
function sent({ allow_unprotected: unprotected }) {
  const leaves = unprotected ? ["bare", "counts", "keys", "answer"] : ["update", "keys", "answer"];
  page.sent.replaceChildren(
    make("h3", {}, say("sent.stays")), make("ul", { class: "ticks stays" }, ["text", "labels", "readings", "listens"].map((what) => make("li", {}, say(`sent.stays.${what}`)))),
    make("h3", {}, say("sent.leaves")), make("ul", { class: "ticks leaves" }, leaves.map((what) => make("li", {}, say(`sent.leaves.${what}`)))));
}

function budget({ epsilon_spent: spent, epsilon_limit: limit, delta, trouble, allow_unprotected: unprotected }) {
  const besides = unprotected && make("p", {}, say("budget.unprotected"));
  if (spent === null) {
    redraw(page.budget, make("p", {}, say("budget.unknown")), besides, trouble && make("p", { class: "small", lang: "en" }, trouble));
    return;
  }
  const fill = make("span", { class: "fill" });
  fill.style.setProperty("inline-size", `${Math.min(100 * spent / limit, 100)}%`);
  const said = say("budget.left", { spent: number(spent, 2), limit: number(limit, 2), left: number(Math.max(limit - spent, 0), 2) });
  redraw(page.budget,
    make("div", { class: "gauge", role: "img", "aria-label": said }, fill),
    make("p", { class: "sentence" }, said),
    make("p", {}, say("budget.meaning"), " ", !unprotected && say("budget.end")),
    besides,
    make("p", { class: "small" }, say("budget.delta", { delta: number(delta, 6) })));
}

function participation({ paused, skip_next: skipNext }) {
  const change = (name) => once(async (event) => {
    const answer = await kindly(() => call("PUT", "/v1/privacy/participation", { body: { [name]: event.target.checked } }));
    if (answer === undefined) event.target.checked = !event.target.checked;
    else {
      state.privacy.participation[name] = event.target.checked;
      tell(say(`part.${name}.${event.target.checked ? "on" : "off"}`));
      show();
    }
  });
  const line = (name, on) => make("label", { class: "switch" },
    make("input", { type: "checkbox", checked: on, "data-key": name, onchange: change(name) }),
    make("span", {}, make("strong", {}, say(`part.${name}`)), make("span", { class: "small" }, say(`part.${name}.why`))));
  redraw(page.participation, line("paused", paused), line("skip_next", skipNext), make("p", { class: "small" }, say("part.anyway")));
}

/** Every message that left, newest first, with what its round cost; rounds that were charged and sent nothing besides. */
function rounds(charges, messages) {
  const cost = new Map(charges.map((one) => [`${one.run} ${one.round}`, one.epsilon]));
  const sent = messages.map((one) => ({ ...one, epsilon: cost.get(`${one.run} ${one.round}`) }));
  const named = new Set(messages.map((one) => `${one.run} ${one.round}`));
  const unsent = charges.filter((one) => !named.has(`${one.run} ${one.round}`));
  const rows = [...unsent, ...sent].reverse();
  page.rounds.replaceChildren(rows.length ? roundTable(rows) : make("p", { class: "quiet" }, say("rounds.none")));
}

function roundTable(rows) {
  const columns = {
    when: (one) => (one.at ? `${day(today(new Date(one.at)), { month: "short", day: "numeric" })} ${time(one.at)}` : "–"),
    round: (one) => number(one.round),
    what: (one) => say(one.what === "counts" ? "rounds.counts" : one.what ? "rounds.update" : "rounds.unsent"),
    bytes: (one) => (one.bytes ? say("bytes", { count: number(one.bytes / 1000, 1) }) : "–"),
    protection: (one) => (one.what ? `${say(`protection.${one.privacy}`)}, ${say(`protection.${one.aggregation}`)}` : "–"),
    epsilon: (one) => (one.epsilon === null || one.epsilon === undefined ? "–" : number(one.epsilon, 3)),
  };
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("rounds.heading") }, make("table", { class: "table" },
    make("thead", {}, make("tr", {}, Object.keys(columns).map((name) => make("th", { scope: "col" }, say(`rounds.${name}`))))),
    make("tbody", {}, rows.map((one) => make("tr", {}, Object.values(columns).map((shown) => make("td", {}, shown(one))))))));
}

function model(now) {
  if (now.version === undefined || now.version === null) return page.model.replaceChildren(make("p", { class: "quiet" }, say("model.none")));
  return redraw(page.model,
    make("p", { class: "sentence" }, now.version === FIRST ? say("model.first", { version: FIRST }) : say("model.now", { version: now.version, day: day(today(new Date(now.created))) })),
    make("p", { class: "small quiet" }, `${now.model} · ${now.tuning} · `, make("code", {}, now.digest.slice(0, 12))),
    agreement(now.agreement),
    now.declined && make("p", { class: "small" }, say("model.declined", { version: now.declined })),
    now.refused && make("p", { class: "small" }, say("model.refused"), " ", make("span", { lang: "en" }, now.refused.reason)),
    history(now.history),
    now.earlier && make("p", { class: "small" }, say("model.back.why")),
    now.earlier && make("button", { type: "button", "data-key": "back", onclick: once(back) }, say("model.back")));
}

function agreement(both) {
  if (!both || !both.entries) return make("p", {}, say("model.unscored"));
  const bar = (name, share) => {
    const fill = make("span", { class: "fill" });
    fill.style.setProperty("inline-size", `${100 * share}%`);
    return make("li", {}, make("span", { class: "name" }, say(`model.${name}`)), make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "share" }, percent(share)));
  };
  return make("div", {}, make("p", {}, say("model.agreement", { count: number(both.entries) })), make("ul", { class: "bars" }, bar("before", both.before), bar("after", both.after)));
}

/** What each model that read here was worth on one's own entries. */
function history(each) {
  const scored = each.filter((one) => one.agreement);
  if (scored.length < 2) return null;
  const rows = scored.map((one) => [one.version, one.agreement.entries, percent(one.agreement.before), percent(one.agreement.after)]);
  return table(["version", "entries", "before", "after"].map((name) => say(`model.${name}`)), rows, say("model.history"));
}

async function back() {
  const choice = await ask(say("model.back.title"), [make("p", {}, say("model.back.sure"))], [
    make("button", { value: "", autofocus: true }, say("cancel")), make("button", { value: "back", class: "primary" }, say("model.back"))]);
  if (choice !== "back") return;
  const now = await kindly(() => call("POST", "/v1/model/rollback"));
  if (!now) return;
  state.model = now;
  show();
  tell(say("model.back.done", { version: now.version }));
}

takingOut(document.getElementById("out"));
takingIn(document.getElementById("in"), document.getElementById("in-found"), document.getElementById("in-undo"));
document.addEventListener("language", show);
const [privacy, reading] = await Promise.all([kindly(() => call("GET", "/v1/privacy")), kindly(() => call("GET", "/v1/model"))]);
Object.assign(state, { privacy, model: reading });
page.panels.removeAttribute("aria-busy");
show();
