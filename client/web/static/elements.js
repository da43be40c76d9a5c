// Elements by small calls. Text becomes text nodes, never markup: an entry that says <img onerror=...> is shown as it was written.

const SVG = "http://www.w3.org/2000/svg";

export const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

export const draw = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(path) {
  return draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, draw("path", { d: path }));
}

/** New content in an old place; what had the focus and which folds were open stay as they were, by their data-key. */
export function redraw(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...place.querySelectorAll("details[open][data-key]")].map((fold) => fold.dataset.key));
  place.replaceChildren(...children.flat().filter(Boolean));
  for (const fold of place.querySelectorAll("details[data-key]")) fold.open ||= open.has(fold.dataset.key);
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** A click that waits for its answer: a second one meanwhile does nothing, and the focus stays where it is. */
export function once(act) {
  return async (event) => {
    event.preventDefault();
    const button = event.submitter ?? event.currentTarget;
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await act(event);
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
}

/** A question in a modal dialog; gives its form's button value, or "" if it was closed. */
export function ask(title, content, buttons) {
  return new Promise((answer) => {
    const dialog = make("dialog", { "aria-labelledby": "dialog-title" });
    const form = make("form", { method: "dialog", autocomplete: "off" });
    form.append(make("h2", { id: "dialog-title" }, title), ...content, make("div", { class: "row end" }, buttons));
    dialog.append(form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
