// What is seen: contrast, slab, overlays.

import { classColour, css } from "./colours";
import { button, field, fill, h, select, slider } from "./dom";
import { layer, on, state, tell } from "./store";
import { fit, repaintLabels } from "./viewer";

/** Contrast from the statistics: μ ± kσ, of averaged slices less. */
export function autoContrast(deviations = 3): void {
  const known = layer("tomogram")?.statistics;
  if (!known) return;
  const reach = deviations * (known.standard_deviation || 1);
  state.window = [known.mean - reach, known.mean + reach];
  tell("view");
}

function percentiles(): void {
  const known = layer("tomogram")?.statistics;
  if (!known || known.percentile_99 <= known.percentile_1) return;
  state.window = [known.percentile_1, known.percentile_99];
  tell("view");
}

export function displayPanel(showSurfaces: (wanted: boolean) => void): HTMLElement {
  const labelControls = h("div", {});
  const legend = h("div", { className: "legend" });
  const deviations = slider("Contrast (± σ)", { min: 0.5, max: 8, step: 0.25, value: 3 }, (value) => autoContrast(value), (value) => value.toFixed(2));
  const bright = slider("Brightness", { min: -3, max: 3, step: 0.1, value: 0 }, (value) => {
    const known = layer("tomogram")?.statistics;
    if (!known) return;
    const half = (state.window[1] - state.window[0]) / 2;
    const middle = known.mean - value * (known.standard_deviation || 1);
    state.window = [middle - half, middle + half];
    tell("view");
  }, (value) => value.toFixed(1));
  const slab = slider("Average ± slices", { min: 0, max: 15, step: 1, value: 0 }, (value) => {
    state.slab = value;
    tell("view");
  });
  const labelOpacity = slider("Label opacity", { min: 0, max: 1, step: 0.05, value: state.labels.opacity }, (value) => {
    state.labels.opacity = value;
    tell("view");
  }, (value) => value.toFixed(2));
  const scoreOpacity = slider("Score opacity", { min: 0, max: 1, step: 0.05, value: state.scores.opacity }, (value) => {
    state.scores.opacity = value;
    tell("view");
  }, (value) => value.toFixed(2));
  const circles = h("input", { type: "checkbox", checked: true, onchange: () => setCircles(circles.checked) });
  const surfaces = h("input", { type: "checkbox", onchange: () => showSurfaces(surfaces.checked) });
  const check = (name: string, control: HTMLElement) => {
    const made = field(name, control);
    made.classList.add("check");
    return made;
  };
  const show = () => {
    const names = (state.tomogram?.layers ?? []).map((known) => known.name);
    const labels = names.filter((name) => name === "labels" || name === "target");
    const scores = names.filter((name) => name.startsWith("score-"));
    if (state.labels.layer && !labels.some((name) => name === state.labels.layer)) state.labels.layer = labels[0] ?? "labels";
    if (!scores.includes(state.scores.layer)) state.scores.layer = "";
    const of = (label: string) => state.project.classes.find((known) => `score-${known.label}` === label)?.name ?? label;
    fill(
      labelControls,
      labels.length > 0 &&
        field("Labels", select([...labels.map((name): [string, string] => [name, name === "labels" ? "label map" : "target"]), ["", "none"]], state.labels.layer, (value) => {
          state.labels.layer = value;
          tell("view", "tomogram");
        })),
      labels.length > 0 && labelOpacity.element,
      scores.length > 0 &&
        field("Scores", select([["", "none"], ...scores.map((name): [string, string] => [name, of(name)])], state.scores.layer, (value) => {
          state.scores.layer = value;
          tell("view");
        })),
      scores.length > 0 && scoreOpacity.element,
    );
    fill(
      legend,
      ...state.project.classes.map((known) => {
        const shown = h("input", {
          type: "checkbox",
          checked: !state.labels.hidden.has(known.label),
          onchange: () => {
            if (shown.checked) state.labels.hidden.delete(known.label);
            else state.labels.hidden.add(known.label);
            repaintLabels();
            tell("view");
          },
        });
        const row = check(known.name, shown);
        row.prepend(h("i", { className: "dot", style: `background:${css(classColour(known.label))}` }));
        return row;
      }),
    );
  };
  on(["tomogram", "project", "selection"], show);
  on(["view"], () => {
    slab.set(state.slab);
    labelOpacity.set(state.labels.opacity);
    circles.checked = state.circles;
  });
  return h(
    "aside",
    { className: "display", "aria-label": "Display" },
    h("h3", {}, "Contrast"),
    deviations.element,
    bright.element,
    h(
      "div",
      { className: "buttons" },
      button("Auto", () => {
        deviations.set(3);
        bright.set(0);
        autoContrast();
      }, { title: "μ ± 3σ" }),
      button("1–99 %", percentiles, { title: "From the 1st to the 99th percentile" }),
      button("Fit", fit, { title: "Key F" }),
    ),
    slab.element,
    h("h3", {}, "Overlays"),
    check("Circles", circles),
    labelControls,
    check("Label surfaces in 3D", surfaces),
    h("h3", {}, "Classes"),
    legend,
  );
}

export function setCircles(shown: boolean): void {
  state.circles = shown;
  tell("view", "overlays");
}
