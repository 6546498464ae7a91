// A list that is edited and kept on disk: history, autosave, and what to do when another program changed the file.

import { api, ApiError, type EditedList, type Particle } from "./api";
import { ask, failure, say } from "./dom";

export type SaveState = "saved" | "saving" | "unsaved";

export class ListEditor {
  particles: Particle[] = [];
  file = "";
  state: SaveState = "saved";
  private revision = "";
  private past: Particle[][] = [];
  private future: Particle[][] = [];
  private timer = 0;
  private saving = false;
  private tomogram = "";

  constructor(
    readonly which: EditedList,
    private readonly changed: () => void,
  ) {}

  async load(tomogram: string): Promise<void> {
    await this.flush();
    const found = await api.list(tomogram, this.which);
    this.tomogram = tomogram;
    this.particles = found.particles;
    this.file = found.file;
    this.revision = found.revision;
    this.past = [];
    this.future = [];
    this.state = "saved";
    this.changed();
  }

  /** Replaces the list; `settle` is false while something is dragged. */
  set(next: Particle[], settle = true): void {
    if (settle) {
      this.past.push(this.before ?? this.particles);
      if (this.past.length > 500) this.past.shift();
      this.before = null;
      this.future = [];
    } else {
      this.before ??= this.particles;
    }
    this.particles = next;
    if (settle) this.soon();
    this.changed();
  }

  private before: Particle[] | null = null;

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  undo(): void {
    this.step(this.past, this.future);
  }

  redo(): void {
    this.step(this.future, this.past);
  }

  private step(from: Particle[][], to: Particle[][]): void {
    const next = from.pop();
    if (!next) return;
    to.push(this.particles);
    this.particles = next;
    this.soon();
    this.changed();
  }

  private soon(delay = 120): void {
    this.state = "unsaved";
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.save(), delay);
  }

  /** Saves what is not saved yet. */
  async flush(): Promise<void> {
    if (this.state === "saved" || !this.tomogram) return;
    clearTimeout(this.timer);
    await this.save();
  }

  private async save(): Promise<void> {
    if (this.saving) {
      this.soon();
      return;
    }
    this.saving = true;
    this.state = "saving";
    this.changed();
    const sent = this.particles;
    try {
      const saved = await api.save(this.tomogram, this.which, this.revision, sent);
      this.revision = saved.revision;
      this.file = saved.file;
      this.state = this.particles === sent ? "saved" : "unsaved";
    } catch (error) {
      this.state = "unsaved";
      if (error instanceof ApiError && error.status === 409) await this.conflict();
      else {
        failure(error);
        this.soon(3000);
      }
    } finally {
      this.saving = false;
    }
    if (this.state === "unsaved" && this.particles !== sent) this.soon();
    this.changed();
  }

  private async conflict(): Promise<void> {
    const theirs = await api.list(this.tomogram, this.which);
    const answer = await ask(
      "The list was changed outside",
      `${theirs.file} was written by another program or window since you opened it. It now has ${theirs.particles.length} ` +
        `particles, and here there are ${this.particles.length}. Which shall stay?`,
      "Theirs (mine can be had by undo)",
      "Mine (theirs is overwritten)",
    );
    this.revision = theirs.revision;
    if (answer.startsWith("Mine")) {
      this.soon(0);
      return;
    }
    this.past.push(this.particles);
    this.particles = theirs.particles;
    this.state = "saved";
    say("The list was read again.");
  }
}
