// Curation: picks are looked at one after the other, best first, and accepted or rejected with one key.

import { api, type Particle } from "./api";
import { annotations } from "./annotate";
import { classColour, css } from "./colours";
import { button, failure, field, fill, h, say, select } from "./dom";
import { ListEditor } from "./editor";
import { className, goTo, on, radius, state, tell } from "./store";
import type { Tool } from "./viewer";

type Verdict = "accepted" | "rejected" | undefined;

const redraw = () => tell("overlays");
export const accepted = new ListEditor("accepted", redraw);
export const rejected = new ListEditor("rejected", redraw);

let candidates: Particle[] = [];
let source = "picks";
const GALLERY = 60;
let page = 0;

const key = (particle: Particle) => [particle.x, particle.y, particle.z].map((value) => value.toFixed(1)).join(" ");

function verdicts(): Map<string, Verdict> {
  const all = new Map<string, Verdict>();
  for (const particle of accepted.particles) all.set(key(particle), "accepted");
  for (const particle of rejected.particles) all.set(key(particle), "rejected");
  return all;
}

export const curateTool: Tool = {
  particles: () => candidates,
  select(index) {
    state.selected = index;
    page = Math.floor(index / GALLERY);
    tell("selection");
  },
};

export async function loadCandidates(): Promise<void> {
  const name = state.tomogram?.name;
  if (!name) return;
  try {
    await Promise.all([accepted.load(name), rejected.load(name)]);
    const found = await api.anyList(name, source);
    candidates = found.particles.sort((a, b) => (b.score ?? b.size ?? 0) - (a.score ?? a.size ?? 0));
    state.selected = candidates.length ? 0 : -1;
    page = 0;
  } catch (error) {
    candidates = [];
    failure(error);
  }
  tell("selection", "overlays");
}

/** Gives the selected pick a verdict and goes to the next without one. */
export function judge(verdict: Verdict): void {
  const particle = candidates[state.selected];
  if (!particle) return;
  const own = key(particle);
  const without = (list: Particle[]) => list.filter((other) => key(other) !== own);
  const has = (list: Particle[]) => list.some((other) => key(other) === own);
  for (const [editor, name] of [
    [accepted, "accepted"],
    [rejected, "rejected"],
  ] as const) {
    if (verdict === name) {
      if (!has(editor.particles)) editor.set([...editor.particles, particle]);
    } else if (has(editor.particles)) {
      editor.set(without(editor.particles));
    }
  }
  if (verdict) {
    const all = verdicts();
    const order = [...candidates.keys()].map((i) => (state.selected + 1 + i) % candidates.length);
    const next = order.find((i) => !all.has(key(candidates[i] as Particle)));
    if (next !== undefined) chooseCandidate(next);
  }
  tell("selection", "overlays");
}

function chooseCandidate(index: number): void {
  const particle = candidates[index];
  if (!particle) return;
  curateTool.select(index);
  goTo(particle.x, particle.y, particle.z);
}

export function stepCandidate(by: number): void {
  if (candidates.length) chooseCandidate((state.selected + by + candidates.length) % candidates.length);
}

export function curatePanel(): HTMLElement {
  const counts = h("p", { className: "quiet" });
  const gallery = h("div", { className: "gallery", role: "listbox", "aria-label": "Picks, best first" });
  const places = h("div", { className: "field" });
  const pages = h("div", { className: "buttons" });
  let cropsOf = "";

  const showSources = async () => {
    const lists = await api.lists().catch(() => []);
    const options: [string, string][] = [["picks", "this project's picks"], ...lists.map((path): [string, string] => [path, path])];
    const control = select(options, source, (value) => {
      source = value;
      void loadCandidates();
    });
    fill(places, field("Picks to look through", control));
  };

  const show = () => {
    if (state.mode !== "curate") return;
    const all = verdicts();
    const of = (verdict: Verdict) => candidates.filter((particle) => all.get(key(particle)) === verdict).length;
    const [yes, no] = [of("accepted"), of("rejected")];
    counts.textContent = `${candidates.length} picks: ${yes} accepted, ${no} rejected, ${candidates.length - yes - no} to look at`;
    const last = Math.max(0, Math.ceil(candidates.length / GALLERY) - 1);
    page = Math.min(page, last);
    fill(
      pages,
      button("‹", () => ((page = Math.max(0, page - 1)), show()), { "aria-label": "Page before", disabled: page === 0 }),
      h("span", { className: "quiet" }, `page ${page + 1} of ${last + 1}`),
      button("›", () => ((page = Math.min(last, page + 1)), show()), { "aria-label": "Next page", disabled: page === last }),
    );
    const shown = candidates.slice(page * GALLERY, (page + 1) * GALLERY);
    const now = `${state.tomogram?.name} ${source} ${page} ${candidates.length} ${state.window}`;
    if (gallery.childElementCount !== shown.length || cropsOf !== now) {
      cropsOf = now;
      fill(
        gallery,
        ...shown.map((particle, i) => {
          const index = page * GALLERY + i;
          return h(
            "button",
            {
              type: "button",
              role: "option",
              className: "crop",
              title: `${className(particle.label)}${particle.score === undefined ? "" : `, score ${particle.score.toFixed(3)}`}`,
              onclick: () => chooseCandidate(index),
            },
            h("canvas", {}),
            h("span", {}, particle.score?.toFixed(2) ?? particle.size?.toString() ?? ""),
          );
        }),
      );
      void paintCrops(gallery, shown);
    }
    shown.forEach((particle, i) => {
      const cell = gallery.children[i] as HTMLElement;
      const verdict = all.get(key(particle));
      cell.dataset.verdict = verdict ?? "";
      cell.style.setProperty("--class", css(classColour(particle.label)));
      cell.setAttribute("aria-selected", String(page * GALLERY + i === state.selected));
      const name = `${className(particle.label)} ${page * GALLERY + i + 1}${verdict ? `, ${verdict}` : ""}`;
      cell.setAttribute("aria-label", name);
    });
  };

  on(["selection", "overlays", "mode"], show);
  on(["project", "job"], () => void (state.mode === "curate" && showSources()));
  on(["mode", "tomogram"], () => {
    if (state.mode !== "curate") return;
    void showSources();
  });

  return h(
    "section",
    { className: "pane", "aria-label": "Curate" },
    places,
    h(
      "div",
      { className: "buttons" },
      button("Accept", () => judge("accepted"), { title: "Key A", className: "good" }),
      button("Reject", () => judge("rejected"), { title: "Key R", className: "bad" }),
      button("Undecided", () => judge(undefined), { title: "Key U" }),
    ),
    counts,
    gallery,
    pages,
    h("div", { className: "buttons" }, button("Add the accepted to the annotations", addToAnnotations)),
  );
}

async function paintCrops(gallery: HTMLElement, shown: Particle[]): Promise<void> {
  const name = state.tomogram?.name;
  if (!name || !shown.length) return;
  const largest = Math.max(...shown.map((particle) => radius(particle.label)));
  const side = Math.max(16, Math.min(128, 2 * Math.ceil(1.6 * largest)));
  const [low, high] = state.window;
  try {
    const found = await api.crops(name, { positions: shown.map(({ x, y, z }) => [x, y, z]), side, low, high });
    const size = found.fact("side");
    shown.forEach((_, i) => {
      const canvas = gallery.children[i]?.querySelector("canvas");
      if (!canvas) return;
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d");
      if (!context) return;
      const pixels = context.createImageData(size, size);
      const words = new Uint32Array(pixels.data.buffer);
      for (let j = 0; j < words.length; j++) words[j] = 0xff000000 | ((found.bytes[i * words.length + j] as number) * 0x010101);
      context.putImageData(pixels, 0, 0);
    });
  } catch (error) {
    failure(error);
  }
}

function addToAnnotations(): void {
  const known = new Set(annotations.particles.map(key));
  const fresh = accepted.particles.filter((particle) => !known.has(key(particle)));
  if (fresh.length) annotations.set([...annotations.particles, ...fresh]);
  say(`${fresh.length} particles added to the annotations.`);
}
