// The state of the page, in one place; panels listen for the names of what changed.

import type { Particle, PickSettings, Project, Tomogram } from "./api";

export type Axis = "z" | "y" | "x";
export type Mode = "look" | "annotate" | "curate" | "run" | "compare" | "export";

/** A set of circles over the slices. */
export interface Overlay {
  particles: Particle[];
  /** Dashed circles are suggestions that nobody has confirmed. */
  dashed?: boolean;
}

export interface State {
  project: Project;
  tomogram: Tomogram | null;
  mode: Mode;
  /** Voxel under the cursor, `(x, y, z)`. */
  cursor: [number, number, number];
  /** Screen pixels a voxel. */
  zoom: number;
  /** Middle of the views, `(x, y, z)`. */
  centre: [number, number, number];
  slab: number;
  /** What is black and what is white. */
  window: [number, number];
  labels: { layer: string; opacity: number; hidden: Set<number> };
  scores: { layer: string; opacity: number };
  circles: boolean;
  annotations: Particle[];
  /** Index into the list of the mode at hand. */
  selected: number;
  /** Class of what is added. */
  label: number;
  /** Circles of other lists, by name. */
  overlays: Map<string, Overlay>;
  pick: PickSettings;
}

export type Topic =
  | "project"
  | "tomogram"
  | "mode"
  | "cursor"
  | "view"
  | "annotations"
  | "selection"
  | "overlays"
  | "job"
  | "metrics";

type Listener = () => void;

const listeners = new Map<Topic, Set<Listener>>();

export function on(topics: Topic[], listener: Listener): void {
  for (const topic of topics) {
    if (!listeners.has(topic)) listeners.set(topic, new Set());
    listeners.get(topic)?.add(listener);
  }
}

export function tell(...topics: Topic[]): void {
  const called = new Set<Listener>();
  for (const topic of topics) {
    for (const listener of listeners.get(topic) ?? []) {
      if (called.has(listener)) continue;
      called.add(listener);
      listener();
    }
  }
}

export const state: State = {
  project: null as unknown as Project,
  tomogram: null,
  mode: "look",
  cursor: [0, 0, 0],
  zoom: 1,
  centre: [0, 0, 0],
  slab: 0,
  window: [0, 1],
  labels: { layer: "labels", opacity: 0.4, hidden: new Set() },
  scores: { layer: "", opacity: 0.5 },
  circles: true,
  annotations: [],
  selected: -1,
  label: 1,
  overlays: new Map(),
  pick: { method: "mean-shift", min_score: 0.5 },
};

/** Size of the tomogram, `(x, y, z)`. */
export function size(): [number, number, number] {
  const [z, y, x] = state.tomogram?.shape_zyx ?? [1, 1, 1];
  return [x, y, z];
}

/** A particle's radius in voxels; as the program's pictures have it where none is known. */
export function radius(label: number): number {
  return state.tomogram?.radii_voxels[label] ?? 6;
}

export function className(label: number): string {
  return state.project.classes.find((known) => known.label === label)?.name ?? `class ${label}`;
}

export function moveCursor(x: number, y: number, z: number): void {
  const most = size();
  state.cursor = [x, y, z].map((value, axis) =>
    Math.max(0, Math.min((most[axis] as number) - 1, Math.round(value))),
  ) as [number, number, number];
  tell("cursor");
}

/** Moves cursor and views to a place. */
export function goTo(x: number, y: number, z: number): void {
  state.centre = [x, y, z];
  moveCursor(x, y, z);
  tell("view");
}

export function layer(name: string) {
  return state.tomogram?.layers.find((known) => known.name === name);
}
