// Just enough to write elements in one expression.

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element: properties starting with `on` are listeners, `class`, `data-…` and `aria-…` are attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value as EventListener);
    else if (key in element && !key.includes("-")) (element as unknown as Props)[key] = value;
    else element.setAttribute(key === "className" ? "class" : key, value === true ? "" : String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren(...(children.filter(Boolean) as (Node | string)[]));
}

let count = 0;

/** A control with its label; the label is tied to it for screen readers. */
export function field(label: string, control: HTMLElement, hint = ""): HTMLElement {
  control.id ||= `field-${++count}`;
  return h("div", { className: "field", title: hint }, h("label", { htmlFor: control.id }, label), control);
}

export function button(text: string, onclick: () => void, props: Props = {}): HTMLButtonElement {
  return h("button", { type: "button", onclick, ...props }, text);
}

/** A slider that shows its value. */
export function slider(
  label: string,
  range: { min: number; max: number; step: number; value: number },
  changed: (value: number) => void,
  shown: (value: number) => string = String,
): { element: HTMLElement; set(value: number, most?: number): void; value(): number } {
  const output = h("output", {}, shown(range.value));
  const input = h("input", {
    type: "range",
    min: String(range.min),
    max: String(range.max),
    step: String(range.step),
    value: String(range.value),
    oninput: () => {
      output.textContent = shown(input.valueAsNumber);
      changed(input.valueAsNumber);
    },
  });
  const element = field(label, input);
  element.classList.add("slider");
  element.append(output);
  return {
    element,
    set(value, most) {
      if (most !== undefined) input.max = String(most);
      input.value = String(value);
      output.textContent = shown(input.valueAsNumber);
    },
    value: () => input.valueAsNumber,
  };
}

export function select(
  options: [value: string, text: string][],
  value: string,
  changed: (value: string) => void,
  props: Props = {},
): HTMLSelectElement {
  const element = h(
    "select",
    { onchange: () => changed(element.value), ...props },
    ...options.map(([value, text]) => h("option", { value }, text)),
  );
  element.value = value;
  return element;
}

/** A command line that can be copied. */
export function commandLine(lines: string[]): HTMLElement {
  const text = lines.join("\n");
  return h(
    "details",
    { className: "command" },
    h("summary", {}, "Command line"),
    h("pre", { tabIndex: 0 }, text),
    button("Copy", () => void navigator.clipboard?.writeText(text)),
  );
}

/** Calls `work` once nothing has been asked for `ms`. */
export function later(ms: number, work: () => void): () => void {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(work, ms);
  };
}

/** A dialog with buttons; gives the text of the one pressed, empty when closed by Escape. */
export function ask(title: string, text: string, ...buttons: string[]): Promise<string> {
  return new Promise((resolve) => {
    const done = (value: string) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const dialog = h(
      "dialog",
      { "aria-label": title, oncancel: () => done("") },
      h("h2", {}, title),
      h("p", {}, text),
      h("div", { className: "buttons" }, ...buttons.map((name) => button(name, () => done(name)))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Something the user should know, in the corner and for screen readers. */
export function say(text: string, kind: "note" | "error" = "note"): void {
  let place = document.querySelector(".notices");
  if (!place) {
    place = h("div", { className: "notices", role: "status", "aria-live": "polite" });
    document.body.append(place);
  }
  const notice = h("div", { className: `notice ${kind}` }, h("span", {}, text), button("×", () => notice.remove(), { "aria-label": "Close" }));
  place.append(notice);
  while (place.childElementCount > 4) place.firstElementChild?.remove();
  setTimeout(() => notice.remove(), kind === "error" ? 12000 : 4000);
}

export function failure(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  say(error instanceof Error ? error.message : String(error), "error");
}
