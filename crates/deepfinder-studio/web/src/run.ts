// Running stages: targets, training, segmentation, picking; how they stand, and the command lines that do the same.

import { api, type Found, type Job, type MetricsLine, type PickSettings, type Split, type TrainSettings } from "./api";
import { classColour, css } from "./colours";
import { chart, type Series } from "./chart";
import { button, commandLine, failure, field, fill, h, later, select, slider } from "./dom";
import { annotations } from "./annotate";
import { className, on, state, tell } from "./store";

export let job: Job | null = null;
let metrics: MetricsLine[] = [];
let iterations: number | null = null;

/** Called when a job has made something that is to be seen. */
let reload: () => Promise<void> = async () => {};

export function watchJobs(reloaded: () => Promise<void>): void {
  reload = reloaded;
  const events = new EventSource("/api/events");
  events.addEventListener("job", (event) => {
    const next = JSON.parse((event as MessageEvent<string>).data) as Job | null;
    const ended = job?.status === "running" && next?.status !== "running" && next?.id === job.id;
    job = next;
    if (job?.stage === "train" || job?.stage === "run") void readMetrics();
    if (ended) {
      void readMetrics();
      void reload();
    }
    tell("job");
  });
}

let reading = false;
export async function readMetrics(): Promise<void> {
  if (reading) return;
  reading = true;
  try {
    let found = await api.metrics(metrics.length);
    if (found.count < metrics.length) {
      metrics = [];
      found = await api.metrics(0);
    }
    metrics.push(...found.lines);
    iterations = found.iterations;
    tell("metrics");
  } catch (error) {
    failure(error);
  } finally {
    reading = false;
  }
}

async function begin(work: object): Promise<void> {
  try {
    await annotations.flush();
    job = await api.begin(work);
    if (job.stage === "train") {
      metrics = [];
      void readMetrics();
    }
  } catch (error) {
    failure(error);
  }
  tell("job");
}

export const inWords = (seconds: number): string =>
  seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

/** The work at hand with its bar, for the panel and the bottom line. */
export function jobStatus(): HTMLElement {
  const element = h("div", { className: "job", role: "group", "aria-label": "Work under way" });
  on(["job"], () => {
    if (!job) return fill(element);
    const part = job.total ? Math.min(1, job.done / job.total) : 0;
    const ends: Record<Job["status"], string> = { running: "", done: "done", stopped: "stopped", failed: "failed" };
    const subject = `${job.stage}${job.tomogram ? ` ${job.tomogram}` : ""}`;
    const left = job.status === "running" && job.seconds_left !== null ? `, ${inWords(job.seconds_left)} left` : "";
    const skipped = job.status === "done" && job.products.length > 0 && job.products.every((product) => product.skipped);
    const text =
      job.status === "running"
        ? `${subject}: ${job.what || "begins"} ${job.total ? `${Math.round(100 * part)} %` : ""}${left}`
        : `${subject}: ${ends[job.status]}${skipped ? " (was up to date)" : ` after ${inWords(job.seconds)}`}`;
    fill(
      element,
      h("div", { className: `state ${job.status}` }, text),
      job.status === "running" && h("progress", { max: 1, value: part, "aria-label": text }),
      job.note && job.status === "running" && h("div", { className: "quiet" }, job.note),
      job.error && h("div", { className: "error", role: "alert" }, job.error),
      job.status === "running" && button("Stop", () => void api.stop().catch(failure)),
      commandLine(job.commands),
    );
  });
  return element;
}

export function runPanel(): HTMLElement {
  const alone = h("p", { className: "notice-line" });
  const table = h("div", {});
  const training = h("div", { className: "grid2" });
  const curves = h("div", { className: "curves" });
  const next = h("div", {});
  const picking = pickControls();
  const stages = h(
    "div",
    {},
    h("h3", {}, "Tomograms"),
    table,
    h("h3", {}, "Train"),
    training,
    h(
      "div",
      { className: "buttons" },
      button("Make targets", () => void begin({ stage: "targets" })),
      button("Train", () => void begin({ stage: "train" }), { className: "good", title: "Makes targets first where they are missing; goes on where training was stopped" }),
      button("Begin anew", () => void begin({ stage: "train", fresh: true }), { title: "The training so far is put aside" }),
    ),
    curves,
    h("h3", {}, "Segment"),
    next,
    h(
      "div",
      { className: "buttons" },
      button("Segment this tomogram", () => void begin({ stage: "segment", tomogram: state.tomogram?.name }), { className: "good" }),
      button("Run all stages", () => void begin({ stage: "run" }), { title: "Targets, training, segmentation, picking, evaluation: what is up to date is skipped" }),
    ),
    h("h3", {}, "Pick"),
    picking,
  );

  const show = () => {
    alone.hidden = Boolean(state.project.file);
    stages.hidden = !state.project.file;
    fill(
      alone,
      "This tomogram belongs to no project yet. A project keeps classes, settings and results together in one folder. ",
      button("Make a project here", async () => {
        try {
          state.project = await api.change({ classes: state.project.classes });
          tell("project");
        } catch (error) {
          failure(error);
        }
      }),
    );
    fill(
      table,
      h(
        "table",
        { className: "list", "aria-label": "Tomograms of the project" },
        h("thead", {}, h("tr", {}, ...["name", "is for", "picks", "target", "labels", "found"].map((name) => h("th", { scope: "col" }, name)))),
        h(
          "tbody",
          {},
          ...state.project.tomograms.map((tomogram) =>
            h(
              "tr",
              {},
              h("td", {}, tomogram.name),
              h(
                "td",
                {},
                select(
                  [
                    ["train", "train"],
                    ["validate", "validate"],
                    ["test", "test"],
                  ],
                  tomogram.split,
                  (split) => void edit({ tomograms: [{ name: tomogram.name, split: split as Split }] }),
                  { "aria-label": `What ${tomogram.name} is for` },
                ),
              ),
              ...[tomogram.has_picks, tomogram.has_target, tomogram.has_labels, tomogram.has_found].map((has) =>
                h("td", { className: "yes" }, has ? "●" : "–"),
              ),
            ),
          ),
        ),
      ),
    );
    fill(next, h("p", { className: "quiet" }, state.project.weights ? `with ${state.project.weights}` : "No weights yet: train first."));
    fill(training, ...trainFields());
  };
  on(["project"], show);
  on(["metrics"], () => fill(curves, ...trainingCurves()));
  return h("section", { className: "pane", "aria-label": "Run" }, jobStatus(), alone, stages);
}

async function edit(change: object): Promise<void> {
  try {
    state.project = await api.change(change);
  } catch (error) {
    failure(error);
  }
  tell("project");
}

function trainFields(): HTMLElement[] {
  const settings = state.project.train;
  const plain = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)) as TrainSettings;
  const number = (name: keyof TrainSettings, label: string, hint: string, step = "1") => {
    const value = settings[name];
    const input = h("input", {
      type: "number",
      min: "0",
      step,
      value: value === null || value === undefined ? "" : String(value),
      placeholder: "default",
      onchange: () => {
        const { [name]: _, ...others } = plain;
        void edit({ train: input.value === "" ? others : { ...others, [name]: input.valueAsNumber } });
      },
    });
    return field(label, input, hint);
  };
  const recipe = select(
    [
      ["default", "default"],
      ["paper", "paper"],
    ],
    settings.recipe ?? "default",
    (value) => void edit({ train: { ...plain, recipe: value } }),
  );
  const { points: _points, point_radius: _radius, ...drawn } = state.project.target;
  const targets = select(
    [
      ["spheres", "spheres"],
      ["points", "points"],
    ],
    state.project.target.points ? "points" : "spheres",
    (value) => void edit({ target: value === "points" ? { ...state.project.target, points: true } : drawn }).then(reload),
  );
  const head = select(
    [
      ["full", "full"],
      ["half", "half"],
    ],
    settings.head ?? "full",
    (value) => void edit({ train: { ...plain, head: value } }),
  );
  return [
    field("Targets", targets, "What is learnt of a class without a mask: spheres, or small balls at the centres"),
    field("Resolution", head, "Of the labels: half labels blocks of 2×2×2 voxels, which is faster"),
    field("Recipe", recipe, "default learns fastest; paper is the published schedule"),
    number("epochs", "Epochs", "Number of epochs"),
    number("steps_per_epoch", "Iterations / epoch", "Iterations an epoch"),
    number("batch", "Batch", "Patches a batch"),
    number("patch", "Patch", "Side of a patch in voxels, a multiple of 4"),
    number("learning_rate", "Learning rate", "Adam's learning rate", "any"),
  ];
}

function trainingCurves(): HTMLElement[] {
  if (!metrics.length) return [h("p", { className: "quiet" }, "No training yet.")];
  const epochs = metrics.filter((line) => line.kind === "epoch");
  const steps = metrics.filter((line) => line.kind === "step");
  const series = (name: string, colour: string, of: (line: (typeof epochs)[number]) => number | null | undefined, dashed = false): Series => ({
    name,
    colour,
    dashed,
    points: epochs.flatMap((line): [number, number][] => {
      const value = of(line);
      return value === null || value === undefined ? [] : [[line.epoch, value]];
    }),
  });
  const [blue, orange] = ["#5aa9e6", "#f0a35e"];
  const classes = state.project.classes;
  const byClass = (name: "precision" | "recall" | "f1") =>
    classes.map((known) =>
      series(known.name, css(classColour(known.label)), (line) => (line.validation ?? line.training).classes.find((each) => each.label === known.label)?.[name]),
    );
  const last = epochs.at(-1);
  const done = steps.at(-1)?.step ?? last?.step ?? 0;
  const shown = h("div", { className: "quiet" }, `${last?.epoch ?? 0} epochs, ${Math.max(done, last?.step ?? 0)}${iterations ? ` of ${iterations}` : ""} iterations`);
  const all = h(
    "details",
    { open: curvesShown },
    h("summary", {}, "Curves"),
    steps.length > 1 && chart("Loss", "iteration", [{ name: "batch", colour: "#7d8896", points: steps.map((line) => [line.step, line.loss]) }]),
    chart("Loss", "epoch", [series("training", blue, (line) => line.training.loss), series("validation", orange, (line) => line.validation?.loss)]),
    chart("Accuracy", "epoch", [series("training", blue, (line) => line.training.accuracy), series("validation", orange, (line) => line.validation?.accuracy)], 1),
    chart("F1", "epoch", byClass("f1"), 1),
    chart("Precision", "epoch", byClass("precision"), 1),
    chart("Recall", "epoch", byClass("recall"), 1),
  );
  all.addEventListener("toggle", () => (curvesShown = all.open));
  return [shown, all];
}

let curvesShown = true;

let found: Found | null = null;

/** Sliders whose effect is seen at once: sizes and scores are left out here, a radius is clustered anew. */
function pickControls(): HTMLElement {
  const summary = h("p", { className: "quiet", "aria-live": "polite" });
  const command = h("div", {});
  let auto = true;
  let asked = 0;
  const settings = (): PickSettings => {
    const chosen: PickSettings = { method: method.value, min_score: score.value() };
    if (method.value !== "components") chosen.radius = radiusSlider.value();
    if (!auto && method.value !== "peaks") chosen.min_size = sizeSlider.value();
    return chosen;
  };
  const smallest = (label: number) => (auto ? (found?.smallest_by_class[label] ?? 0) : sizeSlider.value());
  const apply = () => {
    if (!found) return;
    const kept = found.particles.filter((particle) =>
      method.value === "peaks" ? (particle.score ?? 1) >= score.value() : (particle.size ?? Infinity) >= smallest(particle.label),
    );
    state.overlays.set("pick", { particles: kept, dashed: true });
    const counts = new Map<number, number>();
    for (const particle of kept) counts.set(particle.label, (counts.get(particle.label) ?? 0) + 1);
    const by = [...counts].sort(([a], [b]) => a - b).map(([label, count]) => `${className(label)} ${count}`);
    summary.textContent = `${kept.length} of ${found.found} kept (${found.seconds.toFixed(2)} s)${by.length ? `: ${by.join(", ")}` : ""}`;
    tell("overlays");
  };
  const search = async () => {
    const name = state.tomogram?.name;
    if (!name) return;
    const number = ++asked;
    summary.textContent = "Clustering …";
    try {
      // Peaks are looked for from low scores on, so that the slider has something to leave out.
      const wanted = settings();
      const next = await api.find(name, { ...wanted, min_score: Math.min(0.1, wanted.min_score) });
      if (number !== asked) return;
      found = next;
      const most = Math.max(10, ...next.particles.map((particle) => particle.size ?? 0));
      sizeSlider.set(Math.min(sizeSlider.value(), most), most);
      apply();
    } catch (error) {
      if (number === asked) summary.textContent = "";
      failure(error);
    }
  };
  const searchSoon = later(250, () => void search());
  const method = select(
    [
      ["mean-shift", "mean-shift"],
      ["components", "connected components"],
      ["dbscan", "DBSCAN"],
      ["peaks", "peaks of score maps"],
    ],
    "mean-shift",
    () => {
      shown();
      void search();
    },
  );
  const radiusSlider = slider("Radius (voxels)", { min: 1, max: 30, step: 0.5, value: 6 }, searchSoon);
  const sizeSlider = slider("Smallest cluster (voxels)", { min: 0, max: 1000, step: 1, value: 0 }, () => {
    auto = false;
    automatic.checked = false;
    apply();
  });
  const score = slider("Lowest score", { min: 0, max: 1, step: 0.01, value: 0.5 }, apply, (value) => value.toFixed(2));
  const automatic = h("input", {
    type: "checkbox",
    checked: true,
    onchange: () => {
      auto = automatic.checked;
      apply();
    },
  });
  const automaticField = field("Smallest: a quarter of each class's ball", automatic);
  automaticField.classList.add("check");
  const shown = () => {
    const peaks = method.value === "peaks";
    radiusSlider.element.hidden = method.value === "components";
    sizeSlider.element.hidden = automaticField.hidden = peaks;
    score.element.hidden = !peaks;
  };
  const fromProject = () => {
    const pick = state.project.pick;
    method.value = pick.method;
    auto = pick.min_size === null || pick.min_size === undefined;
    automatic.checked = auto;
    if (!auto) sizeSlider.set(pick.min_size ?? 0, Math.max(1000, pick.min_size ?? 0));
    score.set(pick.min_score);
    const own = state.tomogram?.pick_radius_voxels ?? 6;
    radiusSlider.set(Math.round(2 * own) / 2, Math.max(30, Math.ceil(2 * own)));
    shown();
  };
  let of = "";
  on(["tomogram"], () => {
    // Targets of points have smaller clusters.
    const now = `${state.tomogram?.name} ${state.project.target.points ?? false}`;
    if (now === of) return;
    of = now;
    found = null;
    state.overlays.delete("pick");
    summary.textContent = "";
    fromProject();
  });
  const keep = async () => {
    await edit({ pick: settings() });
    await begin({ stage: "pick", tomogram: state.tomogram?.name, fresh: true });
    state.overlays.delete("pick");
    tell("overlays");
  };
  on(["job"], () => {
    if (job?.stage === "pick") fill(command, commandLine(job.commands));
  });
  return h(
    "div",
    { className: "pick" },
    field("Method", method),
    radiusSlider.element,
    automaticField,
    sizeSlider.element,
    score.element,
    h("div", { className: "buttons" }, button("Try", () => void search()), button("Pick and keep", () => void keep(), { className: "good" })),
    summary,
    command,
  );
}
