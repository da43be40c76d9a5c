// The one way to the API: same origin, the login's cookie, problem documents turned into kind words.

import { make, icon } from "./elements.js";
import { knows, say } from "./words.js";

export class Problem extends Error {
  constructor(status, said = {}) {
    super(said.title ?? "");
    this.status = status;
    this.detail = [said.detail, ...(said.errors ?? []).map(({ at, rule }) => `${at}: ${rule}`)].filter(Boolean).join("; ");
    this.next = said.next ?? "";
  }

  get key() {
    const key = `problem.${this.status}`;
    return knows(key) ? key : this.status >= 500 ? "problem.500" : "problem.400";
  }
}

export async function call(method, path, { query = {}, body, file, headers: more = {}, whole = false } = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  const headers = { Accept: whole ? "*/*" : "application/json", ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = file.type || "application/octet-stream";
  let answer;
  try {
    answer = await fetch(asked.size ? `${path}?${asked}` : path, {
      method, headers, body: file ?? (body === undefined ? undefined : JSON.stringify(body)), cache: "no-store", credentials: "same-origin",
    });
  } catch {
    throw new Problem(0);
  }
  if (answer.status === 204) return null;
  if (whole && answer.ok) return answer.blob();
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, said);
  return said;
}

/** Numbers the questions for one place: `asked()` before a call gives what tells, after it, whether another was asked meanwhile. */
export function questions() {
  let last = 0;
  return () => {
    const mine = ++last;
    return () => mine !== last;
  };
}

/** Do it; what goes wrong is said with its next move, and the caller sees `undefined`. */
export async function kindly(act) {
  try {
    quiet();
    return await act();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    warn(problem);
    return undefined;
  }
}

/** Say what was done; `unseen` where the page shows it already and only a screen reader must hear it. */
export function tell(text, { unseen = false } = {}) {
  const status = document.getElementById("status");
  status.replaceChildren(make("p", { class: unseen ? "hidden" : "notice" }, text));
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => status.replaceChildren(), 6000);
}

function warn(problem) {
  const more = [problem.detail, problem.next].filter(Boolean).join(". ");
  document.getElementById("alert").replaceChildren(
    make("div", { class: "notice warning" },
      make("p", {}, make("strong", {}, say(problem.key)), " ", say(`${problem.key}.next`)),
      more && make("details", {}, make("summary", {}, say("problem.more")), make("p", { class: "small", lang: "en" }, more)),
      make("button", { type: "button", class: "round", "aria-label": say("problem.close"), onclick: quiet }, icon("M6 6l12 12M18 6L6 18"))),
  );
}

function quiet() {
  document.getElementById("alert").replaceChildren();
}

document.addEventListener("language", quiet);
