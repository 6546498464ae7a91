// Three linked slices: each asks for what it shows, draws it, and takes mouse and keys.

import { api, type Layer, type Particle } from "./api";
import { FOUND_BY, classColour, css, type Rgb } from "./colours";
import { failure, h } from "./dom";
import { type Axis, goTo, layer, moveCursor, on, radius, size, state, tell } from "./store";

/** What a view shows: `u` runs to the right, `v` down; both are indices into `(x, y, z)`. */
interface View {
  across: Axis;
  name: string;
  u: 0 | 1 | 2;
  v: 0 | 1 | 2;
  w: 0 | 1 | 2;
}

const VIEWS: View[] = [
  { across: "z", name: "XY", u: 0, v: 1, w: 2 },
  { across: "x", name: "ZY", u: 2, v: 1, w: 0 },
  { across: "y", name: "XZ", u: 0, v: 2, w: 1 },
];

/** What particles a click may take hold of, and what becomes of a click; set by the mode at hand. */
export interface Tool {
  particles(): Particle[];
  select(index: number): void;
  /** A click where no particle is. */
  add?(position: [number, number, number]): void;
  /** The particle is being moved; `done` with the last call. */
  move?(index: number, position: [number, number, number], done: boolean): void;
}

let tool: Tool | null = null;

export function useTool(next: Tool | null): void {
  tool = next;
}

/** One kind of image of a view: asks for the newest wish only, and keeps showing the last that came. */
class Picture {
  image: HTMLCanvasElement | null = null;
  private shown = "";
  private wish = "";
  private asking: AbortController | null = null;
  private retry = 0;

  constructor(
    private readonly view: View,
    private readonly paint: (bytes: Uint8Array, pixels: Uint8ClampedArray) => void,
    private readonly redraw: () => void,
  ) {}

  want(query: Record<string, string | number> | null): void {
    clearTimeout(this.retry);
    const wish = query ? JSON.stringify([state.tomogram?.name, query]) : "";
    if (!query) {
      this.asking?.abort();
      this.asking = null;
      this.wish = this.shown = "";
      if (this.image) {
        this.image = null;
        this.redraw();
      }
      return;
    }
    if (wish === this.wish) return;
    this.wish = wish;
    if (!this.asking) void this.ask(query, wish);
    else this.next = query;
  }

  private next: Record<string, string | number> | null = null;

  private async ask(query: Record<string, string | number>, wish: string): Promise<void> {
    const name = state.tomogram?.name;
    if (!name) return;
    const asking = (this.asking = new AbortController());
    try {
      const found = await api.slice(name, query, asking.signal);
      const [width, height] = [found.fact("width"), found.fact("height")];
      this.shown = wish;
      this.show(found.bytes, width, height);
      if (found.fact("preview") && this.wish === wish) {
        this.retry = window.setTimeout(() => {
          this.wish = "";
          this.want(query);
        }, 500);
      }
    } catch (error) {
      this.shown = "";
      failure(error);
    }
    if (this.asking !== asking) return;
    this.asking = null;
    const next = this.next;
    this.next = null;
    if (next && this.wish && this.wish !== wish) void this.ask(next, this.wish);
  }

  /** What is shown is what is wished for. */
  get settled(): boolean {
    return this.shown === this.wish;
  }

  private show(bytes: Uint8Array, width: number, height: number): void {
    // Slices across x come with rows of y, and are shown with y downwards.
    const turned = this.view.across === "x";
    const [columns, rows] = turned ? [height, width] : [width, height];
    const ordered = turned ? new Uint8Array(bytes.length) : bytes;
    if (turned) {
      for (let z = 0; z < height; z++) for (let y = 0; y < width; y++) ordered[y * height + z] = bytes[z * width + y] as number;
    }
    const image = this.image ?? document.createElement("canvas");
    image.width = columns;
    image.height = rows;
    const context = image.getContext("2d");
    if (!context) return;
    const pixels = context.createImageData(columns, rows);
    this.paint(ordered, pixels.data);
    context.putImageData(pixels, 0, 0);
    this.image = image;
    this.redraw();
  }
}

function paintGrey(bytes: Uint8Array, pixels: Uint8ClampedArray): void {
  const words = new Uint32Array(pixels.buffer);
  for (let i = 0; i < bytes.length; i++) words[i] = 0xff000000 | ((bytes[i] as number) * 0x010101);
}

function paintLabels(bytes: Uint8Array, pixels: Uint8ClampedArray): void {
  const words = new Uint32Array(pixels.buffer);
  const table = new Uint32Array(256);
  for (let label = 1; label < 256; label++) {
    if (state.labels.hidden.has(label)) continue;
    const [r, g, b] = classColour(label);
    table[label] = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
  }
  for (let i = 0; i < bytes.length; i++) words[i] = table[bytes[i] as number] as number;
}

/** Black, purple, orange, white: what a score map is seen through. */
function paintScores(bytes: Uint8Array, pixels: Uint8ClampedArray): void {
  for (let i = 0; i < bytes.length; i++) {
    const value = (bytes[i] as number) / 255;
    pixels[4 * i] = 255 * Math.min(1, 1.6 * value);
    pixels[4 * i + 1] = 255 * Math.max(0, 1.8 * value - 0.6);
    pixels[4 * i + 2] = 255 * (value < 0.5 ? 0.9 * value : 0.45 - 0.6 * (value - 0.5) + Math.max(0, 2.4 * (value - 0.8)));
    pixels[4 * i + 3] = 255 * Math.min(1, 2 * value);
  }
}

class Panel {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly grey: Picture;
  private readonly labels: Picture;
  private readonly scores: Picture;
  private frame = 0;
  private dragged: number | null = null;

  constructor(readonly view: View) {
    this.canvas = h("canvas", {
      tabIndex: 0,
      role: "application",
      "aria-label": `Slice ${view.name}. Arrow keys move the cursor, comma and full stop change the slice, plus and minus zoom; ? lists all keys.`,
      "data-view": view.name,
    });
    this.element = h("div", { className: "panel" }, this.canvas);
    const redraw = () => this.draw();
    this.grey = new Picture(view, paintGrey, redraw);
    this.labels = new Picture(view, paintLabels, redraw);
    this.scores = new Picture(view, paintScores, redraw);
    this.listen();
    new ResizeObserver(() => this.refresh()).observe(this.element);
  }

  get settled(): boolean {
    return this.grey.settled && this.labels.settled && this.scores.settled;
  }

  private index(): number {
    return state.cursor[this.view.w] as number;
  }

  /** Asks for what is to be seen now. */
  refresh(): void {
    const tomogram = state.tomogram;
    const main = layer("tomogram");
    if (!tomogram || !main) return;
    const perPixel = 1 / (state.zoom * devicePixelRatio);
    const bin = perPixel >= 8 ? 8 : perPixel >= 4 ? 4 : perPixel >= 2 ? 2 : 1;
    const query = (of: Layer) => ({
      layer: of.name,
      axis: this.view.across,
      index: this.index(),
      bin,
      version: of.version,
    });
    const [low, high] = state.window;
    this.grey.want({ ...query(main), slab: state.slab, low, high });
    const labels = state.labels.opacity > 0 ? layer(state.labels.layer) : undefined;
    this.labels.want(labels ? query(labels) : null);
    const scores = state.scores.opacity > 0 ? layer(state.scores.layer) : undefined;
    this.scores.want(scores ? { ...query(scores), low: 0, high: 1 } : null);
    this.draw();
  }

  repaintLabels(): void {
    this.labels.want(null);
    this.refresh();
  }

  private toScreen(position: [number, number, number]): [number, number] {
    const { u, v } = this.view;
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    return [
      (position[u] - state.centre[u]) * state.zoom + width / 2,
      (position[v] - state.centre[v]) * state.zoom + height / 2,
    ];
  }

  private toVoxel(x: number, y: number): [number, number, number] {
    const { u, v, w } = this.view;
    const position: [number, number, number] = [0, 0, 0];
    position[u] = (x - this.element.clientWidth / 2) / state.zoom + state.centre[u];
    position[v] = (y - this.element.clientHeight / 2) / state.zoom + state.centre[v];
    position[w] = this.index();
    return position;
  }

  draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  private paint(): void {
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const ratio = devicePixelRatio;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    if (!context || !state.tomogram) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#0b0d10";
    context.fillRect(0, 0, width, height);
    const most = size();
    const [left, top] = this.toScreen([-0.5, -0.5, -0.5]);
    const [wide, high] = [most[this.view.u] * state.zoom, most[this.view.v] * state.zoom];
    context.imageSmoothingEnabled = state.zoom < 2;
    const lay = (picture: Picture, alpha: number) => {
      if (!picture.image || alpha <= 0) return;
      context.globalAlpha = alpha;
      context.drawImage(picture.image, left, top, wide, high);
      context.globalAlpha = 1;
    };
    lay(this.grey, 1);
    lay(this.scores, state.scores.opacity);
    lay(this.labels, state.labels.opacity);
    if (state.circles) this.drawCircles(context, width, height);
    this.drawCursor(context, width, height);
    this.drawCorner(context, height);
  }

  private drawCircles(context: CanvasRenderingContext2D, width: number, height: number): void {
    const inHand = tool?.particles();
    const { w } = this.view;
    const at = this.index();
    const circle = (particle: Particle, dashed: boolean, chosen: boolean) => {
      const position: [number, number, number] = [particle.x, particle.y, particle.z];
      const whole = radius(particle.label);
      const distance = (position[w] as number) - at;
      const squared = whole * whole - distance * distance;
      if (squared <= 0) return;
      const [x, y] = this.toScreen(position);
      const r = Math.max(2, Math.sqrt(squared) * state.zoom);
      if (x + r < 0 || y + r < 0 || x - r > width || y - r > height) return;
      const colour: Rgb = particle.found_by ? (FOUND_BY[particle.found_by] as Rgb) : classColour(particle.label);
      context.setLineDash(dashed ? [4, 3] : []);
      context.lineWidth = chosen ? 3.5 : 3;
      context.strokeStyle = "rgba(0, 0, 0, 0.55)";
      context.beginPath();
      context.arc(x, y, r, 0, 2 * Math.PI);
      context.stroke();
      context.lineWidth = chosen ? 2.5 : 1.6;
      context.strokeStyle = chosen ? "#ffffff" : css(colour);
      context.stroke();
      context.setLineDash([]);
      if (Math.abs(distance) < 1) {
        context.fillStyle = css(colour);
        context.fillRect(x - 1.5, y - 1.5, 3, 3);
      }
    };
    for (const overlay of state.overlays.values()) {
      for (const particle of overlay.particles) circle(particle, overlay.dashed ?? false, false);
    }
    // The colours of a consensus tell who found a particle, not its class: then nothing lies over them.
    if (inHand !== state.annotations && !state.overlays.has("consensus")) for (const particle of state.annotations) circle(particle, false, false);
    inHand?.forEach((particle, index) => circle(particle, false, index === state.selected));
  }

  private drawCursor(context: CanvasRenderingContext2D, width: number, height: number): void {
    const [x, y] = this.toScreen(state.cursor);
    context.lineWidth = 1;
    const gap = 9;
    const line = (x0: number, y0: number, x1: number, y1: number, colour: string) => {
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
      context.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
      context.stroke();
    };
    const colours = ["rgba(255,107,107,.5)", "rgba(94,214,140,.5)", "rgba(110,168,254,.6)"];
    const [ofU, ofV] = [colours[this.view.u] as string, colours[this.view.v] as string];
    line(0, y, x - gap, y, ofU);
    line(x + gap, y, width, y, ofU);
    line(x, 0, x, y - gap, ofV);
    line(x, y + gap, x, height, ofV);
  }

  private drawCorner(context: CanvasRenderingContext2D, height: number): void {
    const most = size()[this.view.w];
    context.font = "11px ui-monospace, Menlo, Consolas, monospace";
    const text = `${this.view.name}  ${this.view.across} ${this.index()} / ${most - 1}`;
    context.fillStyle = "rgba(11, 13, 16, 0.72)";
    context.fillRect(6, 6, context.measureText(text).width + 12, 19);
    context.fillStyle = "#dfe5ec";
    context.fillText(text, 12, 19);
    const angstrom = state.tomogram?.voxel_size_angstrom;
    if (!angstrom || this.view.across !== "z") return;
    let nanometres = 1;
    for (const step of [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]) {
      if (((step * 10) / angstrom) * state.zoom < 150) nanometres = step;
    }
    const long = ((nanometres * 10) / angstrom) * state.zoom;
    context.fillStyle = "rgba(11, 13, 16, 0.72)";
    context.fillRect(8, height - 30, long + 12, 24);
    context.fillStyle = "#dfe5ec";
    context.fillRect(14, height - 12, long, 2);
    context.fillText(`${nanometres} nm`, 14, height - 17);
  }

  /** The particle under a point of the screen: of several the nearest. */
  private particleAt(x: number, y: number): number {
    let best = -1;
    let least = Infinity;
    tool?.particles().forEach((particle, index) => {
      const position: [number, number, number] = [particle.x, particle.y, particle.z];
      const whole = radius(particle.label);
      const distance = (position[this.view.w] as number) - this.index();
      const squared = whole * whole - distance * distance;
      if (squared <= 0) return;
      const [px, py] = this.toScreen(position);
      const away = Math.hypot(px - x, py - y);
      if (away <= Math.max(6, Math.sqrt(squared) * state.zoom) && away < least) [best, least] = [index, away];
    });
    return best;
  }

  private listen(): void {
    const canvas = this.canvas;
    let panning: { x: number; y: number; centre: [number, number, number] } | null = null;
    let settingCursor = false;
    const place = (event: PointerEvent | WheelEvent): [number, number] => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      const [x, y] = place(event);
      const isPan = event.button === 1 || event.button === 2 || event.altKey;
      if (isPan) {
        panning = { x, y, centre: [...state.centre] };
        return;
      }
      const index = event.shiftKey ? -1 : this.particleAt(x, y);
      if (index >= 0) {
        tool?.select(index);
        if (tool?.move) this.dragged = index;
      } else if (tool?.add && !event.shiftKey) {
        const position = this.toVoxel(x, y);
        const most = size();
        if (position.every((value, axis) => value > -0.5 && value < (most[axis] as number) - 0.5)) tool.add(position);
      } else {
        settingCursor = true;
        moveCursor(...this.toVoxel(x, y));
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      const voxel = this.toVoxel(x, y);
      pointer(voxel);
      if (panning) {
        const { u, v } = this.view;
        state.centre[u] = panning.centre[u] - (x - panning.x) / state.zoom;
        state.centre[v] = panning.centre[v] - (y - panning.y) / state.zoom;
        tell("view");
      } else if (this.dragged !== null) {
        tool?.move?.(this.dragged, this.moved(voxel), false);
      } else if (settingCursor) {
        moveCursor(...voxel);
      }
    });
    const up = (event: PointerEvent) => {
      if (this.dragged !== null) {
        const [x, y] = place(event);
        tool?.move?.(this.dragged, this.moved(this.toVoxel(x, y)), true);
      }
      this.dragged = null;
      panning = null;
      settingCursor = false;
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => pointer(null));
    let rest = 0;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) {
          const [x, y] = place(event);
          this.zoomAt(x, y, Math.exp(-event.deltaY * 0.004));
          return;
        }
        // Trackpads send many small steps.
        rest += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
        const steps = Math.trunc(rest);
        rest -= steps;
        if (steps) this.scroll(Math.max(-5, Math.min(5, steps)));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** Where a dragged particle goes: it keeps its place along the third axis. */
  private moved(voxel: [number, number, number]): [number, number, number] {
    const particle = this.dragged === null ? undefined : tool?.particles()[this.dragged];
    if (!particle) return voxel;
    const most = size();
    const position: [number, number, number] = [particle.x, particle.y, particle.z];
    for (const axis of [this.view.u, this.view.v]) {
      position[axis] = Math.max(0, Math.min(most[axis] - 1, voxel[axis]));
    }
    return position;
  }

  scroll(steps: number): void {
    const next: [number, number, number] = [...state.cursor];
    next[this.view.w] += steps;
    moveCursor(...next);
  }

  zoomAt(x: number, y: number, factor: number): void {
    const before = this.toVoxel(x, y);
    state.zoom = Math.max(0.05, Math.min(40, state.zoom * factor));
    const after = this.toVoxel(x, y);
    const { u, v } = this.view;
    state.centre[u] += before[u] - after[u];
    state.centre[v] += before[v] - after[v];
    tell("view");
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { u, v } = this.view;
    const step = event.shiftKey ? 10 : 1;
    const next: [number, number, number] = [...state.cursor];
    const middle = () => [this.element.clientWidth / 2, this.element.clientHeight / 2] as const;
    switch (event.key) {
      case "ArrowLeft":
        next[u] -= step;
        break;
      case "ArrowRight":
        next[u] += step;
        break;
      case "ArrowUp":
        next[v] -= step;
        break;
      case "ArrowDown":
        next[v] += step;
        break;
      case ",":
      case "PageUp":
        next[this.view.w] -= step;
        break;
      case ".":
      case "PageDown":
        next[this.view.w] += step;
        break;
      case "+":
      case "=":
        this.zoomAt(...middle(), 1.25);
        event.preventDefault();
        return;
      case "-":
        this.zoomAt(...middle(), 0.8);
        event.preventDefault();
        return;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
    moveCursor(...next);
  }

  picture(): HTMLCanvasElement {
    this.paint();
    return this.canvas;
  }
}

export const panels: Panel[] = [];

let pointer: (voxel: [number, number, number] | null) => void = () => {};

/** The views; `fourth` stands in the last quarter. */
export function viewer(fourth: HTMLElement, pointed: typeof pointer): HTMLElement {
  pointer = pointed;
  for (const view of VIEWS) panels.push(new Panel(view));
  const refresh = () => panels.forEach((panel) => panel.refresh());
  on(["tomogram", "cursor", "view"], refresh);
  on(["annotations", "selection", "overlays", "mode"], () => panels.forEach((panel) => panel.draw()));
  return h(
    "div",
    { className: "views" },
    ...panels.map((panel) => panel.element),
    h("div", { className: "panel" }, fourth),
  );
}

/** Shows all of the tomogram in the views. */
export function fit(): void {
  const most = size();
  const box = panels[0]?.element;
  if (!box) return;
  state.zoom = Math.min((box.clientWidth - 24) / most[0], (box.clientHeight - 24) / most[1]);
  goTo(...(most.map((n) => Math.floor((n - 1) / 2)) as [number, number, number]));
}

/** Whether all views show what is wished for. */
export function settled(): boolean {
  return panels.every((panel) => panel.settled);
}

/** The four views as one picture. */
export function picture(fourth: HTMLCanvasElement): HTMLCanvasElement {
  const canvases = [...panels.map((panel) => panel.picture()), fourth];
  const [wide, high] = [canvases[0]?.width ?? 1, canvases[0]?.height ?? 1];
  const all = h("canvas", { width: 2 * wide + 4, height: 2 * high + 4 });
  const context = all.getContext("2d");
  if (context) {
    context.fillStyle = "#2a2f37";
    context.fillRect(0, 0, all.width, all.height);
    canvases.forEach((canvas, i) => context.drawImage(canvas, (i % 2) * (wide + 4), Math.floor(i / 2) * (high + 4), wide, high));
  }
  return all;
}

export function repaintLabels(): void {
  panels.forEach((panel) => panel.repaintLabels());
}
