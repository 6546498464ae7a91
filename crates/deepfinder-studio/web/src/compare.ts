// Comparing two lists: scores against annotations, and what two pickers found together and each alone.

import { api, type Row } from "./api";
import { FOUND_BY, css } from "./colours";
import { button, commandLine, failure, field, fill, h, select } from "./dom";
import { className, on, state, tell } from "./store";

interface ClassScores {
  label: number;
  truth: number;
  picks: number;
  precision: number;
  recall: number;
  f1: number;
}

export function comparePanel(): HTMLElement {
  const results = h("div", { className: "results" });
  const choices = h("div", {});
  let a = "annotations";
  let b = "picks";
  const distance = h("input", { type: "text", className: "short", placeholder: "class's own", "aria-label": "Distance in voxels (10) or Å (100A)" });
  const anyClass = h("input", { type: "checkbox" });
  const anyField = field("Classes may differ", anyClass);
  anyField.classList.add("check");

  const show = async () => {
    if (state.mode !== "compare") return;
    const lists = await api.lists().catch(() => []);
    const options: [string, string][] = [
      ["annotations", "annotations"],
      ["picks", "this project's picks"],
      ["accepted", "accepted picks"],
      ...lists.map((path): [string, string] => [path, path]),
    ];
    fill(
      choices,
      field("List A (annotations)", select(options, a, (value) => (a = value))),
      field("List B (picks)", select(options, b, (value) => (b = value))),
    );
  };
  const body = () => {
    const text = distance.value.trim();
    const radius = text === "" ? undefined : /^[\d.]+$/.test(text) ? Number(text) : text;
    return { a, b, ...(radius === undefined ? {} : { radius }), ...(anyClass.checked ? { any_class: true } : {}) };
  };
  const evaluate = async () => {
    if (!state.tomogram) return;
    try {
      const { evaluation, command } = await api.evaluate(state.tomogram.name, body());
      const rows = evaluation.pooled?.classes ?? evaluation.classes ?? findRows(evaluation);
      fill(results, scoresTable(rows as ClassScores[]), command && commandLine([command]));
    } catch (error) {
      failure(error);
    }
  };
  const consensus = async () => {
    if (!state.tomogram) return;
    try {
      const found = await api.consensus(state.tomogram.name, body());
      state.overlays.set("consensus", { particles: found.particles });
      state.overlays.delete("picks");
      fill(results, legend(), consensusTable([...found.classes, found.all]), commandLine([found.command]));
      tell("overlays");
    } catch (error) {
      failure(error);
    }
  };
  on(["mode", "tomogram", "project"], () => void show());
  on(["tomogram"], () => fill(results));
  return h(
    "section",
    { className: "pane", "aria-label": "Compare" },
    choices,
    field("Distance", distance, "Up to which two places are one particle: voxels (10) or Å (100A)"),
    anyField,
    h("div", { className: "buttons" }, button("Score B against A", () => void evaluate(), { className: "good" }), button("Consensus of A and B", () => void consensus())),
    results,
  );
}

/** The rows of classes, wherever the report has them. */
function findRows(report: unknown): ClassScores[] {
  if (Array.isArray(report)) return [];
  for (const value of Object.values(report as Record<string, unknown>)) {
    if (Array.isArray(value) && value[0] && "f1" in value[0] && "label" in value[0]) return value as ClassScores[];
    if (value && typeof value === "object") {
      const inner = findRows(value);
      if (inner.length) return inner;
    }
  }
  return [];
}

function table(name: string, head: string[], rows: (string | HTMLElement)[][]): HTMLElement {
  return h(
    "table",
    { className: "list", "aria-label": name },
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell, i) => h("td", { className: i ? "number" : "" }, cell))))),
  );
}

function scoresTable(rows: ClassScores[]): HTMLElement {
  return table(
    "Scores",
    ["class", "truth", "picks", "precision", "recall", "F1"],
    rows.map((row) => [className(row.label), String(row.truth), String(row.picks), ...[row.precision, row.recall, row.f1].map((n) => n.toFixed(3))]),
  );
}

function consensusTable(rows: Row[]): HTMLElement {
  return table(
    "Consensus",
    ["class", "both", "only A", "only B", "agreement"],
    rows.map((row) => [row.label === 0 ? "all" : className(row.label), String(row.both), String(row.only_a), String(row.only_b), row.agreement.toFixed(3)]),
  );
}

function legend(): HTMLElement {
  const names = { both: "both", "only-a": "only A", "only-b": "only B" };
  return h(
    "p",
    { className: "quiet" },
    ...Object.entries(names).flatMap(([key, name]) => [h("i", { className: "dot", style: `background:${css(FOUND_BY[key] as [number, number, number])}` }), ` ${name}  `]),
  );
}
