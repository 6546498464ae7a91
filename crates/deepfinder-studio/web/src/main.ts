// The page: bar, tools, views, display, bottom line; and the keys.

import "./style.css";
import { api } from "./api";
import { addAtCursor, annotatePanel, annotateTool, annotations, chooseClass, remove, step } from "./annotate";
import { accepted, curatePanel, curateTool, judge, loadCandidates, rejected, stepCandidate } from "./curate";
import { comparePanel } from "./compare";
import { autoContrast, displayPanel, setCircles } from "./display";
import { button, failure, fill, h, select } from "./dom";
import { exportPanel, savePicture } from "./exporting";
import { inWords, job, readMetrics, runPanel, watchJobs } from "./run";
import { scene } from "./scene";
import { type Mode, layer, on, state, tell } from "./store";
import { fit, panels, settled, useTool, viewer } from "./viewer";

const MODES: [Mode, string, string][] = [
  ["look", "Look", "The tomogram and what was found in it"],
  ["annotate", "Annotate", "Mark particles for the network to learn from"],
  ["curate", "Curate", "Accept or reject picks"],
  ["run", "Run", "Train, segment, pick"],
  ["compare", "Compare", "Score picks, and compare two lists"],
  ["export", "Export", "To the formats of other programs"],
];

const KEYS: [string, string][] = [
  ["wheel, , and .", "next and previous slice (with the pointer or focus on it)"],
  ["Ctrl + wheel, + and −", "zoom"],
  ["right button, Alt + drag", "pan"],
  ["arrow keys (Shift: ten)", "move the cursor"],
  ["F", "fit the tomogram into the views"],
  ["[ and ]", "average fewer or more slices"],
  ["L", "labels on and off"],
  ["C", "circles on and off"],
  ["1 … 9", "class of the selected particle and of new ones"],
  ["click, Enter", "annotate: add a particle at the pointer, at the cursor"],
  ["drag", "annotate: move a particle"],
  ["Delete", "annotate: remove the selected particle"],
  ["Ctrl + Z, Ctrl + Shift + Z", "annotate: undo, redo"],
  ["N and P", "next and previous particle or pick"],
  ["A, R, U", "curate: accept, reject, undecided"],
  ["S", "save the views as a picture"],
  ["?", "this list"],
];

const third = scene();
const statusCursor = h("span", { className: "where" });
const statusSaved = h("span", { className: "saved", role: "status" });
const statusJob = h("button", { type: "button", className: "flat job-line", onclick: () => setMode("run") });
let pointed: [number, number, number] | null = null;

function showCursor(): void {
  const [x, y, z] = pointed ? pointed.map(Math.round) : state.cursor;
  const size = state.tomogram?.voxel_size_angstrom;
  const inNm = size ? `  (${[x, y, z].map((value) => (((value as number) * size) / 10).toFixed(1)).join(", ")} nm)` : "";
  statusCursor.textContent = `x ${x}  y ${y}  z ${z}${inNm}`;
}

function lookPanel(): HTMLElement {
  const facts = h("dl", { className: "facts" });
  const lists = h("div", {});
  on(["tomogram", "annotations", "overlays"], () => {
    const tomogram = state.tomogram;
    if (!tomogram) return;
    const known = layer("tomogram")?.statistics;
    const rows: [string, string][] = [
      ["File", tomogram.file],
      ["Size (x, y, z)", [...tomogram.shape_zyx].reverse().join(" × ")],
      ["Voxel", tomogram.voxel_size_angstrom ? `${tomogram.voxel_size_angstrom} Å` : "not said by the file"],
      ["Mean ± σ", known ? `${known.mean.toPrecision(4)} ± ${known.standard_deviation.toPrecision(4)}` : ""],
      ["Is for", tomogram.split],
      ["Annotations", `${annotations.particles.length} in ${annotations.file}`],
      ["Picks", tomogram.picks ? `${state.overlays.get("picks")?.particles.length ?? 0} in ${tomogram.picks}` : "none yet"],
    ];
    fill(facts, ...rows.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  });
  const other = h("details", {}, h("summary", {}, "Show another list"), lists);
  other.addEventListener("toggle", async () => {
    const paths = await api.lists().catch(() => []);
    fill(
      lists,
      select([["", "none"], ...paths.map((path): [string, string] => [path, path])], "", async (path) => {
        state.overlays.delete("other");
        try {
          if (path && state.tomogram) state.overlays.set("other", { particles: (await api.anyList(state.tomogram.name, path)).particles });
        } catch (error) {
          failure(error);
        }
        tell("overlays");
      }, { "aria-label": "Another list" }),
    );
  });
  return h(
    "section",
    { className: "pane", "aria-label": "Look" },
    facts,
    other,
    h("p", { className: "quiet" }, "Solid circles: annotations. Dashed: picks. Keys: press ?"),
  );
}

async function openTomogram(name: string): Promise<void> {
  await Promise.all([annotations.flush(), accepted.flush(), rejected.flush()]);
  try {
    state.tomogram = await api.tomogram(name);
  } catch (error) {
    failure(error);
    return;
  }
  state.selected = -1;
  state.overlays.clear();
  state.label = state.project.classes.some((known) => known.label === state.label) ? state.label : (state.project.classes[0]?.label ?? 1);
  autoContrast();
  await annotations.load(name).catch(failure);
  await showPicks();
  tell("tomogram");
  fit();
  if (state.mode === "curate") await loadCandidates();
}

async function showPicks(): Promise<void> {
  const tomogram = state.tomogram;
  state.overlays.delete("picks");
  if (tomogram?.picks) {
    try {
      const found = await api.anyList(tomogram.name, "picks");
      state.overlays.set("picks", { particles: found.particles, dashed: true });
    } catch (error) {
      failure(error);
    }
  }
  tell("overlays");
}

/** After a job: what it made is to be seen. */
async function reload(): Promise<void> {
  try {
    state.project = await api.project();
    if (state.tomogram) state.tomogram = await api.tomogram(state.tomogram.name);
  } catch (error) {
    failure(error);
  }
  if (job?.stage === "segment" && job.status === "done") state.labels.layer = "labels";
  await showPicks();
  tell("project", "tomogram");
}

const tabs = new Map<Mode, HTMLButtonElement>();
const panes = new Map<Mode, HTMLElement>();

function setMode(mode: Mode): void {
  state.mode = mode;
  useTool(mode === "annotate" ? annotateTool : mode === "curate" ? curateTool : null);
  state.selected = -1;
  for (const [each, tab] of tabs) {
    tab.setAttribute("aria-selected", String(each === mode));
    tab.tabIndex = each === mode ? 0 : -1;
  }
  for (const [each, pane] of panes) pane.hidden = each !== mode;
  document.body.dataset.mode = mode;
  if (mode !== "compare") state.overlays.delete("consensus");
  if (mode === "curate") void loadCandidates();
  if (mode === "run") void readMetrics();
  // Curated picks are drawn as such; consensus takes their place until one goes elsewhere.
  if (mode === "curate") state.overlays.delete("picks");
  else void showPicks();
  tell("mode", "selection", "overlays");
}

function help(): void {
  const dialog = h(
    "dialog",
    { "aria-label": "Keys", className: "help" },
    h("h2", {}, "Keys"),
    h("dl", {}, ...KEYS.flatMap(([keys, what]) => [h("dt", {}, keys), h("dd", {}, what)])),
    h("div", { className: "buttons" }, button("Close", () => dialog.close())),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function keys(event: KeyboardEvent): void {
  const target = event.target as HTMLElement;
  const types = target instanceof HTMLInputElement && !["checkbox", "radio", "range", "color"].includes(target.type);
  if (types || target instanceof HTMLSelectElement || document.querySelector("dialog[open]")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "z" && state.mode === "annotate") {
    event.preventDefault();
    if (event.shiftKey) annotations.redo();
    else annotations.undo();
    return;
  }
  if (command || event.altKey) return;
  const curates = state.mode === "curate";
  const annotates = state.mode === "annotate";
  const actions: Record<string, (() => void) | false> = {
    "?": help,
    f: fit,
    "[": () => slab(-1),
    "]": () => slab(1),
    l: () => {
      state.labels.opacity = state.labels.opacity > 0 ? 0 : 0.4;
      tell("view");
    },
    c: () => setCircles(!state.circles),
    s: () => savePicture(third.canvas),
    n: curates ? () => stepCandidate(1) : () => step(1),
    p: curates ? () => stepCandidate(-1) : () => step(-1),
    a: curates && (() => judge("accepted")),
    r: curates && (() => judge("rejected")),
    u: curates && (() => judge(undefined)),
    Delete: annotates && remove,
    Backspace: annotates && remove,
    Enter: annotates && target instanceof HTMLCanvasElement && addAtCursor,
  };
  const digit = Number(event.key);
  const action = actions[event.key] ?? (event.key.length === 1 ? actions[event.key.toLowerCase()] : undefined);
  if (digit >= 1 && digit <= 9) {
    chooseClass(digit);
    tell("annotations");
  } else if (action) {
    action();
  } else return;
  event.preventDefault();
}

function slab(by: number): void {
  state.slab = Math.max(0, Math.min(15, state.slab + by));
  tell("view");
}

function tabKeys(event: KeyboardEvent): void {
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (!by) return;
  const at = MODES.findIndex(([mode]) => mode === state.mode);
  const next = MODES[(at + by + MODES.length) % MODES.length] as (typeof MODES)[number];
  setMode(next[0]);
  tabs.get(next[0])?.focus();
  event.preventDefault();
  event.stopPropagation();
}

async function main(): Promise<void> {
  const root = document.getElementById("app") as HTMLElement;
  try {
    state.project = await api.project();
  } catch (error) {
    fill(root, h("p", { className: "error" }, error instanceof Error ? error.message : String(error)));
    return;
  }
  state.pick = state.project.pick;
  const builders: Record<Mode, () => HTMLElement> = {
    look: lookPanel,
    annotate: annotatePanel,
    curate: curatePanel,
    run: runPanel,
    compare: comparePanel,
    export: () => exportPanel(third.canvas),
  };
  for (const [mode, name, hint] of MODES) {
    const pane = builders[mode]();
    pane.id = `pane-${mode}`;
    pane.setAttribute("role", "tabpanel");
    panes.set(mode, pane);
    tabs.set(mode, h("button", { type: "button", role: "tab", title: hint, "aria-controls": pane.id, onclick: () => setMode(mode) }, name));
  }
  const chooser = select(
    state.project.tomograms.map((tomogram) => [tomogram.name, tomogram.name]),
    state.project.first ?? (state.project.tomograms.find((each) => each.has_labels) ?? state.project.tomograms[0])?.name ?? "",
    (name) => void openTomogram(name),
    { "aria-label": "Tomogram" },
  );
  const folder = state.project.folder.split(/[\\/]/).at(-1) ?? "";
  fill(
    root,
    h(
      "header",
      {},
      h("strong", {}, "DeepFinder"),
      h("span", { className: "quiet project-name", title: state.project.folder }, folder),
      chooser,
      h("div", { className: "tabs", role: "tablist", "aria-label": "Tools", onkeydown: tabKeys }, ...tabs.values()),
      h("span", { className: "space" }),
      button("Keys ?", help, { className: "flat" }),
    ),
    h("main", {}, h("div", { className: "tools" }, ...panes.values()), viewer(third.element, (voxel) => ((pointed = voxel), showCursor())), displayPanel(third.showSurfaces)),
    h("footer", {}, statusCursor, h("span", { className: "space" }), statusJob, statusSaved),
  );
  on(["cursor", "tomogram"], showCursor);
  on(["annotations", "overlays"], () => {
    const all = [annotations, accepted, rejected].map((editor) => editor.state);
    const now = all.includes("unsaved") ? "not saved yet" : all.includes("saving") ? "saving …" : "all saved";
    if (statusSaved.textContent !== now) statusSaved.textContent = now;
    statusSaved.dataset.state = now;
  });
  on(["job"], () => {
    const part = job?.total ? ` ${Math.round((100 * job.done) / job.total)} %` : "";
    const left = job && job.seconds_left !== null ? `, ${inWords(job.seconds_left)} left` : "";
    statusJob.textContent = !job ? "" : job.status === "running" ? `${job.stage}${part}${left}` : `${job.stage}: ${job.status}`;
    statusJob.dataset.state = job?.status ?? "";
  });
  window.addEventListener("keydown", keys);
  window.addEventListener("beforeunload", (event) => {
    if ([annotations, accepted, rejected].some((editor) => editor.state !== "saved")) event.preventDefault();
  });
  tell("project");
  setMode("look");
  const first = chooser.value;
  if (first) await openTomogram(first);
  watchJobs(reload);
  await readMetrics();
  // For tests: whether the views show what they should.
  Object.assign(window, { studio: { settled: () => settled() && panels.length === 3, state } });
  document.body.dataset.ready = "yes";
}

void main();
