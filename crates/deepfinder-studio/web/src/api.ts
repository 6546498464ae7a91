// What the server says and is asked; the Rust side is `crates/deepfinder-studio/src/routes`.

export interface Particle {
  x: number;
  y: number;
  z: number;
  label: number;
  score?: number;
  size?: number;
  angles?: [number, number, number];
  tomogram?: string;
  found_by?: "both" | "only-a" | "only-b";
}

export interface ClassInfo {
  label: number;
  name: string;
  /** Voxels as a number, or text with a unit. */
  radius: number | string;
}

export type Split = "train" | "validate" | "test";

export interface TomogramRow {
  name: string;
  split: Split;
  has_picks: boolean;
  has_target: boolean;
  has_labels: boolean;
  has_found: boolean;
}

export interface TargetSettings {
  order: string[];
  points?: boolean;
  point_radius?: number | string;
}

export interface TrainSettings {
  recipe?: string | null;
  head?: string | null;
  epochs?: number | null;
  steps_per_epoch?: number | null;
  batch?: number | null;
  patch?: number | null;
  learning_rate?: number | null;
  schedule?: string | null;
  patience?: number | null;
  seed?: number | null;
  start_from?: string | null;
}

export interface PickSettings {
  method: string;
  radius?: number | string | null;
  min_size?: number | null;
  min_score: number;
}

export interface Project {
  folder: string;
  file: string | null;
  first: string | null;
  classes: ClassInfo[];
  tomograms: TomogramRow[];
  target: TargetSettings;
  train: TrainSettings;
  pick: PickSettings;
  weights: string | null;
  device: string;
  version: string;
}

export interface Statistics {
  mean: number;
  standard_deviation: number;
  percentile_1: number;
  percentile_99: number;
  min: number;
  max: number;
}

export interface Layer {
  name: string;
  file: string;
  version: string;
  statistics: Statistics;
}

export interface Tomogram {
  name: string;
  file: string;
  split: Split;
  shape_zyx: [number, number, number];
  voxel_size_angstrom: number | null;
  radii_voxels: Record<string, number>;
  pick_radius_voxels: number;
  layers: Layer[];
  annotations: string;
  picks: string | null;
}

export interface ListState {
  file: string;
  revision: string;
  particles: Particle[];
}

export interface Job {
  id: number;
  stage: "target" | "train" | "segment" | "pick" | "run";
  tomogram: string | null;
  commands: string[];
  status: "running" | "done" | "stopped" | "failed";
  what: string;
  done: number;
  total: number;
  unit: string;
  note: string;
  seconds: number;
  seconds_left: number | null;
  error: string | null;
  products: { stage: string; subject: string; skipped: boolean }[];
}

export interface ClassMetrics {
  label: number;
  precision: number | null;
  recall: number | null;
  f1: number | null;
}

export interface SplitMetrics {
  loss: number;
  accuracy: number;
  mean_f1: number;
  classes: ClassMetrics[];
}

export type MetricsLine =
  | { kind: "step"; step: number; loss: number; learning_rate: number; gradient_norm: number }
  | {
      kind: "epoch";
      epoch: number;
      step: number;
      seconds: number;
      training: SplitMetrics;
      validation: SplitMetrics | null;
      best: boolean;
    };

export interface Found {
  /** How many there are in all; the largest are sent. */
  found: number;
  particles: Particle[];
  seconds: number;
  smallest_by_class: Record<string, number>;
  command: string;
}

export interface Row {
  label: number;
  both: number;
  only_a: number;
  only_b: number;
  agreement: number;
}

export interface Formats {
  particles: { id: string; name: string; positions: string; angles: string }[];
  volumes: { id: string; name: string }[];
}

export type EditedList = "annotations" | "accepted" | "rejected";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function failed(response: Response): Promise<never> {
  let what = `the server answered ${response.status}`;
  try {
    what = ((await response.json()) as { error: string }).error;
  } catch {
    // No JSON: the status has to do.
  }
  throw new ApiError(response.status, what);
}

async function asked(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer: is `deepfinder studio` still running?");
  }
  return response.ok ? response : failed(response);
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  return (await asked(path, init)).json() as Promise<T>;
}

const of = (name: string): string => `/api/tomograms/${encodeURIComponent(name)}`;

export interface Bytes {
  bytes: Uint8Array;
  fact(name: string): number;
}

async function bytes(response: Response): Promise<Bytes> {
  const buffer = await response.arrayBuffer();
  return { bytes: new Uint8Array(buffer), fact: (name) => Number(response.headers.get(`x-${name}`)) };
}

export const api = {
  project: () => json<Project>("GET", "/api/project"),
  change: (edit: object) => json<Project>("PUT", "/api/project", edit),
  tomogram: (name: string) => json<Tomogram>("GET", of(name)),
  list: (name: string, which: EditedList) => json<ListState>("GET", `${of(name)}/lists/${which}`),
  save: (name: string, which: EditedList, revision: string, particles: Particle[]) =>
    json<{ file: string; revision: string }>("PUT", `${of(name)}/lists/${which}`, { revision, particles }),
  anyList: (name: string, list: string) =>
    json<{ file: string; particles: Particle[] }>("GET", `${of(name)}/list?list=${encodeURIComponent(list)}`),
  lists: () => json<string[]>("GET", "/api/lists"),
  find: (name: string, settings: PickSettings) => json<Found>("POST", `${of(name)}/find`, settings),
  evaluate: (name: string, body: object) =>
    json<{ evaluation: any; command: string | null }>("POST", `${of(name)}/evaluate`, body),
  consensus: (name: string, body: object) =>
    json<{ particles: Particle[]; classes: Row[]; all: Row; command: string }>("POST", `${of(name)}/consensus`, body),
  formats: () => json<Formats>("GET", "/api/formats"),
  export: (name: string, body: object) =>
    json<{ file: string; is_folder: boolean; notes: string[]; command: string }>("POST", `${of(name)}/export`, body),
  job: () => json<Job | null>("GET", "/api/job"),
  begin: (work: object) => json<Job>("POST", "/api/job", work),
  commands: (work: object) => json<{ commands: string[] }>("POST", "/api/job", { ...work, dry_run: true }),
  stop: () => json<object>("DELETE", "/api/job"),
  metrics: (after: number) =>
    json<{ lines: MetricsLine[]; count: number; iterations: number | null; folder: string }>(
      "GET",
      `/api/metrics?after=${after}`,
    ),
  slice: async (name: string, query: Record<string, string | number>, signal: AbortSignal) => {
    const text = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    return bytes(await asked(`${of(name)}/slice?${text.join("&")}`, { signal }));
  },
  block: async (name: string, layer: string, version: string) =>
    bytes(await asked(`${of(name)}/block?layer=${layer}&version=${encodeURIComponent(version)}`)),
  crops: async (name: string, body: object) =>
    bytes(
      await asked(`${of(name)}/crops`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    ),
  fileAddress: (path: string) => `/api/file?path=${encodeURIComponent(path)}`,
};
