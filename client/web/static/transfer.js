// A diary out of this device and into it: a file to keep, a look into a file before it is taken in, and the way back.

import { call, kindly, tell } from "./api.js";
import { ask, make, once, redraw } from "./elements.js";
import { number, say } from "./words.js";

const LONGEST_LIST = 50;

/** The form that takes the whole diary out; the browser keeps the file where the person says, and nothing else. */
export function takingOut(form) {
  const [kind, words, again] = ["out-form", "out-words", "out-again"].map((id) => document.getElementById(id));
  const sealed = () => kind.value === "archive";
  const show = () => {
    for (const option of kind.options) option.textContent = say(`out.${option.value}`);
    for (const input of [words, again]) Object.assign(input, { disabled: !sealed(), required: sealed() });
  };
  form.addEventListener("submit", once(async () => {
    if (sealed() && words.value !== again.value) return tell(say("out.differ"));
    const content = await kindly(() => call("POST", "/v1/export", { body: { form: kind.value, passphrase: sealed() ? words.value : null }, whole: true }));
    if (!content) return undefined;
    save(content, `feelinghealing.${kind.value}`);
    form.reset();
    show();
    return tell(say("out.done"));
  }));
  kind.addEventListener("change", show);
  document.addEventListener("language", show);
  show();
}

function save(content, name) {
  const address = URL.createObjectURL(content);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** The form that looks into a file; what it holds is shown in `place`, and taken in only then. */
export function takingIn(form, place, back) {
  const [input, words] = ["in-file", "in-words"].map((id) => document.getElementById(id));
  const state = { found: null };
  const send = (path) => kindly(() => call("POST", path, {
    file: input.files[0], query: { ending: input.files[0].name.split(".").pop().toLowerCase() },
    headers: words.value ? { "Archive-Passphrase": encodeURIComponent(words.value) } : {},
  }));
  const show = () => redraw(place, state.found && account(state.found), state.found && choices());
  const close = () => {
    state.found = null;
    form.reset();
    show();
  };
  const keep = once(async () => {
    const done = await send("/v1/import");
    if (!done) return;
    close();
    tell(say("in.done", { added: number(done.added), known: number(done.known) }));
  });
  const choices = () => make("div", { class: "row" },
    make("button", { type: "button", class: "primary", "data-key": "keep", onclick: keep }, say("in.go")),
    make("button", { type: "button", "data-key": "close", onclick: close }, say("cancel")));
  form.addEventListener("submit", once(async () => {
    if (!input.files[0]) return;
    state.found = (await send("/v1/import/look")) ?? null;
    show();
    place.querySelector("[data-key=keep]")?.focus();
  }));
  back.addEventListener("click", once(takeBack));
  document.addEventListener("language", show);
}

async function takeBack() {
  const choice = await ask(say("in.undo"), [make("p", {}, say("in.undo.sure"))], [
    make("button", { value: "", autofocus: true }, say("cancel")), make("button", { value: "back", class: "primary" }, say("in.undo"))]);
  if (choice !== "back") return;
  const done = await kindly(() => call("DELETE", "/v1/import"));
  if (done) tell(say("in.undone", { count: number(done.forgotten) }));
}

/** Everything that would not be kept as it stands; places and reasons are the device's own words, in English. */
function account(found) {
  const listed = (key, places) => (places.length ? make("details", { class: "more", "data-key": key },
    make("summary", {}, say(`in.${key}`, { count: number(places.length) })),
    make("ul", { class: "small", lang: "en" }, places.slice(0, LONGEST_LIST).map((place) => make("li", {}, place)))) : null);
  const counted = (key, counts) => listed(key, Object.entries(counts).map(([what, count]) => `${what}: ${count}`));
  return make("div", {},
    make("p", { class: "sentence" }, say("in.found", { count: number(found.added) })),
    found.form && make("p", { class: "small", lang: "en" }, found.form),
    listed("bad", found.bad.map(({ place, reason }) => `${place}: ${reason}`)), listed("undated", found.undated), listed("unplaced", found.unplaced),
    counted("left", found.left), counted("passed", found.passed_over));
}
