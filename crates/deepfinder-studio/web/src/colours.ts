// As the program's pictures have them: Okabe and Ito's, distinct to colour-blind eyes, repeated after eight.

export type Rgb = [number, number, number];

const CLASSES: Rgb[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [0, 114, 178],
  [213, 94, 0],
  [204, 121, 167],
  [170, 255, 120],
];

/** Colours that the user chose, by label; kept in this browser. */
const chosen = new Map<number, Rgb>(JSON.parse(localStorage.getItem("colours") ?? "[]") as [number, Rgb][]);

export function classColour(label: number): Rgb {
  return chosen.get(label) ?? (CLASSES[(label - 1 + 8) % 8] as Rgb);
}

export function chooseColour(label: number, hex: string): void {
  const value = parseInt(hex.slice(1), 16);
  chosen.set(label, [value >> 16, (value >> 8) & 255, value & 255]);
  localStorage.setItem("colours", JSON.stringify([...chosen]));
}

/** Green, yellow and blue: the colours of the paper's Supplementary Note 1. */
export const FOUND_BY: Record<string, Rgb> = {
  both: [0, 158, 115],
  "only-a": [240, 228, 66],
  "only-b": [86, 180, 233],
};

export const css = ([r, g, b]: Rgb, alpha = 1): string => `rgba(${r}, ${g}, ${b}, ${alpha})`;

export const hex = (rgb: Rgb): string => `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
