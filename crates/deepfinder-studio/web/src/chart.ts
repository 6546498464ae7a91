// Curves as SVG.

export interface Series {
  name: string;
  colour: string;
  points: [number, number][];
  dashed?: boolean;
}

const SVG = "http://www.w3.org/2000/svg";

function s(tag: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text) element.textContent = text;
  return element;
}

function ticks(low: number, high: number): number[] {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((n) => n * power).find((each) => span / each <= 4) ?? span;
  const all: number[] = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) all.push(Number(at.toPrecision(6)));
  return all;
}

/** A chart of curves; `top` fixes the upper end. */
export function chart(title: string, unit: string, series: Series[], top?: number): HTMLElement {
  const [width, height, left, bottom] = [340, 130, 36, 20];
  const points = series.flatMap((each) => each.points).filter(([, y]) => Number.isFinite(y));
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.textContent = `${title} by ${unit}`;
  figure.append(caption);
  for (const each of series) {
    const key = document.createElement("span");
    key.className = "key";
    key.style.setProperty("--colour", each.colour);
    const last = each.points.at(-1)?.[1];
    key.textContent = `${each.name}${last === undefined ? "" : ` ${last.toFixed(3)}`}`;
    caption.append(key);
  }
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${series.map((each) => `${each.name} ${each.points.at(-1)?.[1].toFixed(3) ?? "no value yet"}`).join(", ")}` });
  svg.setAttribute("data-points", String(points.length));
  const [x0, x1] = [Math.min(...points.map(([x]) => x), Infinity), Math.max(...points.map(([x]) => x), -Infinity)];
  const high = top ?? Math.max(...points.map(([, y]) => y), 1e-6) * 1.05;
  const from = Number.isFinite(x0) ? Math.min(0, x0) : 0;
  const to = Number.isFinite(x1) ? Math.max(x1, from + 1) : 1;
  const px = (x: number) => left + ((x - from) / (to - from)) * (width - left - 8);
  const py = (y: number) => height - bottom - (y / high) * (height - bottom - 8);
  for (const y of ticks(0, high)) {
    svg.append(s("line", { x1: left, x2: width - 8, y1: py(y), y2: py(y), class: "grid" }));
    svg.append(s("text", { x: left - 5, y: py(y) + 3, class: "tick end" }, String(y)));
  }
  for (const x of ticks(from, to)) {
    if (Number.isInteger(x)) svg.append(s("text", { x: px(x), y: height - 7, class: "tick middle" }, String(x)));
  }
  for (const each of series) {
    const path = each.points.filter(([, y]) => Number.isFinite(y)).map(([x, y]) => `${px(x).toFixed(1)},${py(Math.min(y, high)).toFixed(1)}`);
    svg.append(s("polyline", { points: path.join(" "), fill: "none", stroke: each.colour, "stroke-width": 1.6, "stroke-dasharray": each.dashed ? "4 3" : "none" }));
    const only = path.length === 1 ? path[0]?.split(",") : undefined;
    if (only) svg.append(s("circle", { cx: only[0] as string, cy: only[1] as string, r: 2.5, fill: each.colour }));
  }
  figure.append(svg);
  return figure;
}
