// Exporting lists and volumes to what `deepfinder convert` knows, and the views as a picture.

import { api, type Formats } from "./api";
import { annotations } from "./annotate";
import { button, commandLine, failure, field, fill, h, select } from "./dom";
import { on, state } from "./store";
import { picture } from "./viewer";

let formats: Formats | null = null;

export function exportPanel(scene: HTMLCanvasElement): HTMLElement {
  const controls = h("div", {});
  const result = h("div", { className: "results", "aria-live": "polite" });
  const send = async (what: object, format: string, label = "") => {
    if (!state.tomogram) return;
    try {
      await annotations.flush();
      const made = await api.export(state.tomogram.name, { what, format, ...(label ? { label: Number(label) } : {}) });
      const link = h("a", { href: api.fileAddress(made.file), download: "" }, "Save a copy on this computer");
      fill(
        result,
        h("p", {}, "Wrote ", h("code", {}, made.file)),
        made.is_folder ? h("p", { className: "quiet" }, "A folder: copy it from the project.") : link,
        made.notes.length > 0 && h("ul", { className: "quiet" }, ...made.notes.map((note) => h("li", {}, note))),
        commandLine([made.command]),
      );
    } catch (error) {
      failure(error);
    }
  };
  const show = async () => {
    if (state.mode !== "export") return;
    try {
      formats ??= await api.formats();
    } catch (error) {
      failure(error);
      return;
    }
    const lists = await api.lists().catch(() => []);
    const list = select(
      [["annotations", "annotations"], ["picks", "this project's picks"], ["accepted", "accepted picks"], ...lists.map((path): [string, string] => [path, path])],
      "annotations",
      () => {},
    );
    const classes = select([["", "all"], ...state.project.classes.map((known): [string, string] => [String(known.label), known.name])], "", () => {});
    const conventions = h("p", { className: "quiet" });
    const explain = () => {
      const chosen = formats?.particles.find((known) => known.id === listFormat.value);
      conventions.textContent = chosen ? `Positions: ${chosen.positions}. Angles: ${chosen.angles}.` : "";
    };
    const listFormat = select(formats.particles.map((known) => [known.id, known.name]), "relion5", explain);
    explain();
    const layers = (state.tomogram?.layers ?? []).map((known): [string, string] => [known.name, known.name]);
    const volume = select(layers, layers.some(([name]) => name === "labels") ? "labels" : "tomogram", () => {});
    const volumeFormat = select(formats.volumes.map((known) => [known.id, known.name]), "tif", () => {});
    fill(
      controls,
      h("h3", {}, "Particles"),
      field("List", list),
      field("Classes", classes),
      field("Format", listFormat),
      conventions,
      h("div", { className: "buttons" }, button("Export list", () => void send({ list: list.value }, listFormat.value, classes.value), { className: "good" })),
      h("h3", {}, "Volume"),
      field("Volume", volume),
      field("Format of the volume", volumeFormat),
      h("div", { className: "buttons" }, button("Export volume", () => void send({ layer: volume.value }, volumeFormat.value))),
      h("h3", {}, "Picture"),
      h("div", { className: "buttons" }, button("Save the present view (PNG)", () => savePicture(scene))),
    );
  };
  on(["mode", "tomogram"], () => void show());
  return h("section", { className: "pane", "aria-label": "Export" }, controls, result);
}

export function savePicture(scene: HTMLCanvasElement): void {
  picture(scene).toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: `${state.tomogram?.name ?? "view"}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}
