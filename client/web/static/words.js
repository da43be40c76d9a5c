// What the page says, in two languages. The toggle changes it in place, so that a draft in the diary box is not lost.

const said = await (await fetch("/static/words.json")).json();
const root = document.documentElement;

export const language = () => root.lang;

export function say(key, values = {}) {
  const phrase = said[key][root.lang === "en" ? 1 : 0];
  return phrase.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

export function knows(key) {
  return Object.hasOwn(said, key);
}

export const percent = (share) => new Intl.NumberFormat(root.lang, { style: "percent" }).format(share);

export const number = (value, digits = 0) => new Intl.NumberFormat(root.lang, { maximumFractionDigits: digits }).format(value);

export function day(iso, style = { month: "long", day: "numeric", weekday: "long" }) {
  const [year, month, date] = iso.split("-").map(Number);
  return new Intl.DateTimeFormat(root.lang, style).format(new Date(year, month - 1, date));
}

export const time = (iso) => new Intl.DateTimeFormat(root.lang, { hour: "numeric", minute: "2-digit" }).format(new Date(iso));

/** The day of this device's clock, as the API writes days. */
export function today(date = new Date()) {
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

function retell() {
  for (const element of document.querySelectorAll("[data-w]")) element.textContent = say(element.dataset.w);
  for (const name of ["placeholder", "aria-label"]) {
    for (const element of document.querySelectorAll(`[data-w-${name}]`)) {
      element.setAttribute(name, say(element.getAttribute(`data-w-${name}`)));
    }
  }
}

function toggle(button) {
  button.lang = root.lang;
  button.textContent = root.lang === "ko" ? "한국어" : "English";
  root.lang = root.lang === "ko" ? "en" : "ko";
  document.cookie = `language=${root.lang}; path=/; max-age=31536000; samesite=strict`;
  retell();
  document.dispatchEvent(new Event("language"));
}

const button = document.getElementById("language");
button.addEventListener("click", () => toggle(button));
