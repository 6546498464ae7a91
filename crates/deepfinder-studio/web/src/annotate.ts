// Annotating: places, classes, and the table of both.

import { api, type ClassInfo, type Particle } from "./api";
import { chooseColour, classColour, css, hex } from "./colours";
import { button, failure, fill, h, say } from "./dom";
import { ListEditor } from "./editor";
import { className, goTo, on, size, state, tell } from "./store";
import { type Tool, repaintLabels } from "./viewer";

export const annotations = new ListEditor("annotations", () => {
  state.annotations = annotations.particles;
  tell("annotations");
});

const rounded = (value: number) => Math.round(value * 100) / 100;

export const annotateTool: Tool = {
  particles: () => annotations.particles,
  select(index) {
    state.selected = index;
    tell("selection");
  },
  add([x, y, z]) {
    const particle: Particle = { x: rounded(x), y: rounded(y), z: rounded(z), label: state.label };
    annotations.set([...annotations.particles, particle]);
    state.selected = annotations.particles.length - 1;
    tell("selection");
  },
  move(index, [x, y, z], done) {
    const next = annotations.particles.map((particle, i) =>
      i === index ? { ...particle, x: rounded(x), y: rounded(y), z: rounded(z) } : particle,
    );
    annotations.set(next, done);
  },
};

export function remove(index = state.selected): void {
  if (index < 0 || index >= annotations.particles.length) return;
  annotations.set(annotations.particles.filter((_, i) => i !== index));
  state.selected = Math.min(index, annotations.particles.length - 1);
  tell("selection");
}

/** The class of what is selected, and of what is added from now on. */
export function chooseClass(label: number): void {
  if (!state.project.classes.some((known) => known.label === label)) return;
  state.label = label;
  const chosen = annotations.particles[state.selected];
  if (state.mode === "annotate" && chosen && chosen.label !== label) {
    annotations.set(annotations.particles.map((particle, i) => (i === state.selected ? { ...particle, label } : particle)));
  }
  tell("selection");
}

/** Selects the next particle and goes there. */
export function step(by: number): void {
  const count = annotations.particles.length;
  if (!count) return;
  state.selected = (state.selected + by + count) % count;
  const at = annotations.particles[state.selected] as Particle;
  goTo(at.x, at.y, at.z);
  tell("selection");
}

export function addAtCursor(): void {
  const most = size();
  if (state.cursor.every((value, axis) => value < (most[axis] as number))) annotateTool.add?.(state.cursor);
}

/** Rows of the table: more make the page slow. */
const MOST_ROWS = 400;

export function annotatePanel(): HTMLElement {
  const classes = h("div", { className: "classes" });
  const rows = h("tbody");
  const summary = h("p", { className: "quiet" });
  const undo = button("Undo", () => annotations.undo(), { title: "Ctrl+Z" });
  const redo = button("Redo", () => annotations.redo(), { title: "Ctrl+Shift+Z" });
  const table = h(
    "table",
    { className: "list", "aria-label": "Annotated particles" },
    h("thead", {}, h("tr", {}, ...["#", "class", "x", "y", "z"].map((name) => h("th", { scope: "col" }, name)))),
    rows,
  );

  const showList = () => {
    undo.disabled = !annotations.canUndo;
    redo.disabled = !annotations.canRedo;
    const all = annotations.particles;
    const from = Math.max(0, Math.min(state.selected - MOST_ROWS / 2, all.length - MOST_ROWS));
    fill(
      rows,
      ...all.slice(from, from + MOST_ROWS).map((particle, i) => {
        const index = from + i;
        const row = h(
          "tr",
          {
            tabIndex: 0,
            "aria-selected": index === state.selected ? "true" : "false",
            onclick: () => {
              state.selected = index;
              goTo(particle.x, particle.y, particle.z);
              tell("selection");
            },
            onkeydown: (event: KeyboardEvent) => {
              if (event.key === "Enter") (event.currentTarget as HTMLElement).click();
            },
          },
          h("td", {}, String(index + 1)),
          h("td", {}, h("i", { className: "dot", style: `background:${css(classColour(particle.label))}` }), className(particle.label)),
          ...[particle.x, particle.y, particle.z].map((value) => h("td", { className: "number" }, value.toFixed(1))),
        );
        return row;
      }),
    );
    const more = all.length > MOST_ROWS ? ` (${MOST_ROWS} of them shown)` : "";
    summary.textContent = `${all.length} particles${more} · ${annotations.file}`;
    rows.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  };

  const showClasses = () => {
    if (classes.contains(document.activeElement) && document.activeElement instanceof HTMLInputElement) return;
    const counts = new Map<number, number>();
    for (const particle of annotations.particles) counts.set(particle.label, (counts.get(particle.label) ?? 0) + 1);
    fill(classes, ...state.project.classes.map((known) => classRow(known, counts.get(known.label) ?? 0)));
  };

  on(["annotations", "selection", "tomogram"], showList);
  on(["annotations", "selection", "project"], showClasses);

  return h(
    "section",
    { className: "pane", "aria-label": "Annotate" },
    h("p", { className: "quiet" }, "Click in a slice to add a particle, drag to move it, Delete to remove it. Shift+click only moves the cursor."),
    h("h3", {}, "Classes"),
    classes,
    h("div", { className: "buttons" }, button("Add class", () => void addClass())),
    h("h3", {}, "Particles"),
    h("div", { className: "buttons" }, undo, redo, button("Delete", () => remove(), { title: "Delete" }), button("Add at cursor", addAtCursor, { title: "Enter" })),
    summary,
    h("div", { className: "scroll" }, table),
  );
}

function classRow(known: ClassInfo, count: number): HTMLElement {
  const edited = (change: Partial<ClassInfo>) =>
    saveClasses(state.project.classes.map((other) => (other.label === known.label ? { ...other, ...change } : other)));
  const isChosen = state.label === known.label;
  return h(
    "div",
    { className: isChosen ? "class chosen" : "class" },
    h("input", {
      type: "color",
      value: hex(classColour(known.label)),
      "aria-label": `Colour of ${known.name}`,
      onchange: (event: Event) => {
        chooseColour(known.label, (event.target as HTMLInputElement).value);
        repaintLabels();
        tell("annotations", "selection");
      },
    }),
    h("input", {
      type: "radio",
      name: "class",
      checked: isChosen,
      title: `Key ${known.label}`,
      "aria-label": `Add particles of ${known.name}`,
      onchange: () => chooseClass(known.label),
    }),
    h("input", {
      type: "text",
      value: known.name,
      "aria-label": `Name of class ${known.label}`,
      onchange: (event: Event) => void edited({ name: (event.target as HTMLInputElement).value.trim() }),
    }),
    h("input", {
      type: "text",
      className: "short",
      value: String(known.radius),
      title: "Radius: voxels (12) or Å (120 A)",
      "aria-label": `Radius of ${known.name}, in voxels or Å`,
      onchange: (event: Event) => {
        const text = (event.target as HTMLInputElement).value.trim();
        void edited({ radius: /^[\d.]+$/.test(text) ? Number(text) : text });
      },
    }),
    h("span", { className: "count", title: "Particles" }, String(count)),
    button("×", () => void removeClass(known, count), { className: "flat", "aria-label": `Remove class ${known.name}` }),
  );
}

async function saveClasses(classes: ClassInfo[]): Promise<void> {
  try {
    const wasAlone = !state.project.file;
    state.project = await api.change({ classes });
    if (state.tomogram) state.tomogram = await api.tomogram(state.tomogram.name);
    if (wasAlone) say(`This is a project now: ${state.project.file}`);
  } catch (error) {
    failure(error);
  }
  tell("project", "tomogram");
}

async function addClass(): Promise<void> {
  const labels = state.project.classes.map((known) => known.label);
  let label = 1;
  while (labels.includes(label)) label++;
  let name = `class ${label}`;
  while (state.project.classes.some((known) => known.name === name)) name += "'";
  const last = state.project.classes.at(-1);
  await saveClasses([...state.project.classes, { label, name, radius: last?.radius ?? 10 }]);
  state.label = label;
  tell("selection");
}

async function removeClass(known: ClassInfo, count: number): Promise<void> {
  if (count > 0) {
    say(`${count} particles are of class ${known.name}: give them another class or delete them first.`, "error");
    return;
  }
  await saveClasses(state.project.classes.filter((other) => other !== known));
}
