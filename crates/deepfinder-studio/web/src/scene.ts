// The tomogram from outside: picks as shaded balls, label surfaces, its box and the cursor. WebGL 2, no library.

import { api } from "./api";
import { FOUND_BY, classColour, type Rgb } from "./colours";
import { failure, h } from "./dom";
import { layer, on, radius, size, state } from "./store";
import { surface } from "./surface";

const BALLS_VERTEX = `#version 300 es
uniform mat4 view; uniform vec2 screen; uniform float scale;
in vec3 place; in vec3 colour; in float radius;
out vec3 tint;
void main() {
  vec4 at = view * vec4(place, 1.0);
  gl_Position = at;
  gl_PointSize = max(3.0, 2.0 * radius * scale * screen.y / at.w);
  tint = colour;
}`;

const BALLS_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 tint; out vec4 colour;
void main() {
  vec2 at = 2.0 * gl_PointCoord - 1.0;
  float rest = 1.0 - dot(at, at);
  if (rest < 0.0) discard;
  vec3 normal = vec3(at.x, -at.y, sqrt(rest));
  float light = 0.35 + 0.65 * max(0.0, dot(normal, normalize(vec3(-0.4, 0.6, 0.8))));
  colour = vec4(tint * light, 1.0);
}`;

const SURFACE_VERTEX = `#version 300 es
uniform mat4 view; uniform vec3 forward;
in vec3 place; in vec3 normal;
out float light;
void main() {
  gl_Position = view * vec4(place, 1.0);
  light = 0.3 + 0.7 * abs(dot(normalize(normal), forward));
}`;

const SURFACE_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 tint; in float light; out vec4 colour;
void main() { colour = vec4(tint.rgb * light, tint.a); }`;

const LINES_VERTEX = `#version 300 es
uniform mat4 view; in vec3 place;
void main() { gl_Position = view * vec4(place, 1.0); }`;

const LINES_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 tint; out vec4 colour;
void main() { colour = tint; }`;

interface Mesh {
  label: number;
  places: WebGLBuffer;
  normals: WebGLBuffer;
  triangles: WebGLBuffer;
  count: number;
}

export interface Scene {
  element: HTMLElement;
  canvas: HTMLCanvasElement;
  showSurfaces(wanted: boolean): void;
}

export function scene(): Scene {
  const canvas = h("canvas", {
    tabIndex: 0,
    role: "application",
    "aria-label": "The tomogram in three dimensions. Arrow keys turn it, plus and minus zoom.",
    "data-view": "3D",
  });
  const note = h("div", { className: "scene-note" }, "3D");
  const element = h("div", { className: "scene" }, canvas, note);
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) {
    note.textContent = "3D: this browser has no WebGL 2";
    return { element, canvas, showSurfaces: () => {} };
  }
  const program = (vertex: string, fragment: string): WebGLProgram => {
    const made = gl.createProgram() as WebGLProgram;
    for (const [kind, text] of [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ] as const) {
      const shader = gl.createShader(kind) as WebGLShader;
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) console.error(gl.getProgramInfoLog(made));
    return made;
  };
  const balls = program(BALLS_VERTEX, BALLS_FRAGMENT);
  const surfaces = program(SURFACE_VERTEX, SURFACE_FRAGMENT);
  const lines = program(LINES_VERTEX, LINES_FRAGMENT);
  const ballBuffer = gl.createBuffer() as WebGLBuffer;
  const lineBuffer = gl.createBuffer() as WebGLBuffer;
  let meshes: Mesh[] = [];
  let meshesOf = "";
  let wanted = false;
  let [turn, tilt, distance] = [0.6, 0.5, 2.2];
  let frame = 0;
  const draw = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(paint);
  };

  const buffer = (kind: number, values: AllowSharedBufferSource): WebGLBuffer => {
    const made = gl.createBuffer() as WebGLBuffer;
    gl.bindBuffer(kind, made);
    gl.bufferData(kind, values, gl.STATIC_DRAW);
    return made;
  };

  async function loadSurfaces(): Promise<void> {
    const labels = layer(state.labels.layer) ?? layer("labels") ?? layer("target");
    const key = wanted && labels && state.tomogram ? `${state.tomogram.name} ${labels.name} ${labels.version}` : "";
    if (key === meshesOf) return;
    meshesOf = key;
    for (const mesh of meshes) for (const each of [mesh.places, mesh.normals, mesh.triangles]) gl?.deleteBuffer(each);
    meshes = [];
    draw();
    if (!key || !labels || !state.tomogram) return;
    note.textContent = "3D: making surfaces …";
    try {
      const block = await api.block(state.tomogram.name, labels.name, labels.version);
      if (key !== meshesOf) return;
      const shape: [number, number, number] = [block.fact("depth"), block.fact("height"), block.fact("width")];
      const step = block.fact("step");
      for (const known of state.project.classes) {
        const found = surface(block.bytes, shape, known.label, step);
        if (!found.triangles.length) continue;
        meshes.push({
          label: known.label,
          places: buffer(gl!.ARRAY_BUFFER, found.places),
          normals: buffer(gl!.ARRAY_BUFFER, found.normals),
          triangles: buffer(gl!.ELEMENT_ARRAY_BUFFER, found.triangles),
          count: found.triangles.length,
        });
        // The page answers between one class and the next.
        await new Promise((resolve) => setTimeout(resolve));
      }
    } catch (error) {
      failure(error);
    }
    note.textContent = "3D";
    draw();
  }

  function attribute(of: WebGLProgram, name: string, values: WebGLBuffer, count: number, stride = 0, offset = 0): void {
    const at = gl!.getAttribLocation(of, name);
    gl!.bindBuffer(gl!.ARRAY_BUFFER, values);
    gl!.enableVertexAttribArray(at);
    gl!.vertexAttribPointer(at, count, gl!.FLOAT, false, stride, offset);
  }

  function paint(): void {
    if (!gl || !state.tomogram) return;
    const ratio = devicePixelRatio;
    const [width, height] = [element.clientWidth, element.clientHeight].map((n) => Math.max(1, Math.round(n * ratio))) as [number, number];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0.043, 0.051, 0.063, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const most = size();
    const long = Math.max(...most);
    const { matrix, forward } = camera(most, long * distance, width / height, turn, tilt);

    const box: number[] = [];
    const corner = (i: number) => [i & 1 ? most[0] : 0, i & 2 ? most[1] : 0, i & 4 ? most[2] : 0];
    for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) box.push(...corner(i), ...corner(i | bit));
    const cursor: number[] = [];
    for (let axis = 0; axis < 3; axis++) {
      const [from, to] = [[...state.cursor], [...state.cursor]];
      from[axis] = 0;
      to[axis] = most[axis] as number;
      cursor.push(...from, ...to);
    }
    gl.useProgram(lines);
    gl.uniformMatrix4fv(gl.getUniformLocation(lines, "view"), false, matrix);
    const drawLines = (values: number[], ...tint: [number, number, number, number]) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, lineBuffer);
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
      attribute(lines, "place", lineBuffer, 3);
      gl.uniform4f(gl.getUniformLocation(lines, "tint"), ...tint);
      gl.drawArrays(gl.LINES, 0, values.length / 3);
    };
    drawLines(box, 0.38, 0.43, 0.5, 1);
    drawLines(cursor.slice(0, 6), 1, 0.42, 0.42, 1);
    drawLines(cursor.slice(6, 12), 0.37, 0.84, 0.55, 1);
    drawLines(cursor.slice(12), 0.43, 0.66, 1, 1);

    gl.useProgram(surfaces);
    gl.uniformMatrix4fv(gl.getUniformLocation(surfaces, "view"), false, matrix);
    gl.uniform3fv(gl.getUniformLocation(surfaces, "forward"), forward);
    for (const mesh of meshes) {
      if (state.labels.hidden.has(mesh.label)) continue;
      const [r, g, b] = classColour(mesh.label);
      gl.uniform4f(gl.getUniformLocation(surfaces, "tint"), r / 255, g / 255, b / 255, 1);
      attribute(surfaces, "place", mesh.places, 3);
      attribute(surfaces, "normal", mesh.normals, 3);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.triangles);
      gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    }

    if (!state.circles) return;
    const values: number[] = [];
    const add = (particles: typeof state.annotations) => {
      for (const particle of particles) {
        const rgb: Rgb = particle.found_by ? (FOUND_BY[particle.found_by] as Rgb) : classColour(particle.label);
        values.push(particle.x, particle.y, particle.z, ...rgb.map((c) => c / 255), radius(particle.label) * (meshes.length ? 0.3 : 0.8));
      }
    };
    if (!state.overlays.has("consensus")) add(state.annotations);
    for (const overlay of state.overlays.values()) add(overlay.particles);
    gl.useProgram(balls);
    gl.uniformMatrix4fv(gl.getUniformLocation(balls, "view"), false, matrix);
    gl.uniform2f(gl.getUniformLocation(balls, "screen"), width, height);
    gl.uniform1f(gl.getUniformLocation(balls, "scale"), FOCAL / 2);
    gl.bindBuffer(gl.ARRAY_BUFFER, ballBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
    attribute(balls, "place", ballBuffer, 3, 28, 0);
    attribute(balls, "colour", ballBuffer, 3, 28, 12);
    attribute(balls, "radius", ballBuffer, 1, 28, 24);
    gl.drawArrays(gl.POINTS, 0, values.length / 7);
  }

  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    turn += event.movementX * 0.008;
    tilt = Math.max(-1.5, Math.min(1.5, tilt + event.movementY * 0.008));
    draw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      distance = Math.max(0.3, Math.min(8, distance * Math.exp(event.deltaY * 0.001)));
      draw();
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const steps: Record<string, () => void> = {
      ArrowLeft: () => (turn -= 0.1),
      ArrowRight: () => (turn += 0.1),
      ArrowUp: () => (tilt = Math.min(1.5, tilt + 0.1)),
      ArrowDown: () => (tilt = Math.max(-1.5, tilt - 0.1)),
      "+": () => (distance = Math.max(0.3, distance * 0.9)),
      "-": () => (distance = Math.min(8, distance * 1.1)),
    };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    step();
    draw();
  });
  new ResizeObserver(draw).observe(element);
  on(["tomogram", "cursor", "view", "annotations", "overlays", "selection"], draw);
  on(["tomogram", "view"], () => void loadSurfaces());
  return {
    element,
    canvas,
    showSurfaces(next) {
      wanted = next;
      void loadSurfaces();
    },
  };
}

const FOCAL = 2;

/** Looks at the middle of the tomogram; y of the tomogram goes down, as in the slices. */
function camera(
  most: [number, number, number],
  distance: number,
  aspect: number,
  turn: number,
  tilt: number,
): { matrix: Float32Array; forward: Float32Array } {
  const [ct, st, cp, sp] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  // Rows: right, up, towards the eye.
  const right = [ct, 0, st];
  const up = [st * sp, -cp, -ct * sp];
  const back = [-st * cp, -sp, ct * cp];
  const middle = most.map((n) => n / 2);
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  const [near, far] = [distance * 0.02, distance * 4 + 2 * Math.max(...most)];
  const [a, b] = [(far + near) / (far - near), (-2 * far * near) / (far - near)];
  const wide = FOCAL / aspect;
  const matrix = new Float32Array(16);
  for (let i = 0; i < 3; i++) {
    matrix[4 * i] = wide * (right[i] as number);
    matrix[4 * i + 1] = FOCAL * (up[i] as number);
    matrix[4 * i + 2] = -a * (back[i] as number);
    matrix[4 * i + 3] = -(back[i] as number);
  }
  const along = distance + dot(back, middle);
  matrix[12] = -wide * dot(right, middle);
  matrix[13] = -FOCAL * dot(up, middle);
  matrix[14] = a * along + b;
  matrix[15] = along;
  return { matrix, forward: new Float32Array(back) };
}
