// The surface of a label as triangles: naive surface nets (Gibson 1998), a vertex in each cell that the surface crosses.

export interface Surface {
  /** `(x, y, z)` of each vertex, in voxels of the tomogram. */
  places: Float32Array<ArrayBuffer>;
  normals: Float32Array<ArrayBuffer>;
  triangles: Uint32Array<ArrayBuffer>;
}

/** `shape` is `(z, y, x)`; `step` voxels of the tomogram lie between two of the block. */
export function surface(labels: Uint8Array, shape: [number, number, number], label: number, step: number): Surface {
  const [depth, height, width] = shape;
  // One layer of nothing all around closes surfaces at the edge.
  const at = (z: number, y: number, x: number): number =>
    z >= 0 && y >= 0 && x >= 0 && z < depth && y < height && x < width && labels[(z * height + y) * width + x] === label ? 1 : 0;
  const [rows, columns] = [height + 1, width + 1];
  const vertexOf = new Int32Array((depth + 1) * rows * columns).fill(-1);
  const cell = (z: number, y: number, x: number) => (z * rows + y) * columns + x;
  const places: number[] = [];
  const normals: number[] = [];
  for (let z = 0; z <= depth; z++) {
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        let inside = 0;
        let [gx, gy, gz] = [0, 0, 0];
        const corners: number[] = [];
        for (let i = 0; i < 8; i++) {
          const value = at(z - 1 + (i >> 2), y - 1 + ((i >> 1) & 1), x - 1 + (i & 1));
          corners.push(value);
          inside += value;
          gx += (i & 1 ? -1 : 1) * value;
          gy += (i & 2 ? -1 : 1) * value;
          gz += (i & 4 ? -1 : 1) * value;
        }
        if (inside === 0 || inside === 8) continue;
        // The mean of the middles of the edges that are crossed.
        let [px, py, pz, crossed] = [0, 0, 0, 0];
        for (let i = 0; i < 8; i++) {
          for (const bit of [1, 2, 4]) {
            const other = i | bit;
            if (i & bit || corners[i] === corners[other]) continue;
            px += ((i & 1) + (other & 1)) / 2;
            py += (((i >> 1) & 1) + ((other >> 1) & 1)) / 2;
            pz += ((i >> 2) + (other >> 2)) / 2;
            crossed++;
          }
        }
        vertexOf[cell(z, y, x)] = places.length / 3;
        places.push((x - 1 + px / crossed) * step, (y - 1 + py / crossed) * step, (z - 1 + pz / crossed) * step);
        normals.push(gx, gy, gz);
      }
    }
  }
  const triangles: number[] = [];
  const quad = (a: number, b: number, c: number, d: number) => {
    const [va, vb, vc, vd] = [vertexOf[a], vertexOf[b], vertexOf[c], vertexOf[d]] as [number, number, number, number];
    if (Math.min(va, vb, vc, vd) >= 0) triangles.push(va, vb, vc, va, vc, vd);
  };
  for (let z = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const here = at(z, y, x);
        // The four cells around an edge to a neighbour of another kind; once more before the first voxel of a row.
        if (here !== at(z, y, x + 1)) quad(cell(z, y, x + 1), cell(z, y + 1, x + 1), cell(z + 1, y + 1, x + 1), cell(z + 1, y, x + 1));
        if (here !== at(z, y + 1, x)) quad(cell(z, y + 1, x), cell(z, y + 1, x + 1), cell(z + 1, y + 1, x + 1), cell(z + 1, y + 1, x));
        if (here !== at(z + 1, y, x)) quad(cell(z + 1, y, x), cell(z + 1, y, x + 1), cell(z + 1, y + 1, x + 1), cell(z + 1, y + 1, x));
        if (here && x === 0) quad(cell(z, y, 0), cell(z, y + 1, 0), cell(z + 1, y + 1, 0), cell(z + 1, y, 0));
        if (here && y === 0) quad(cell(z, 0, x), cell(z, 0, x + 1), cell(z + 1, 0, x + 1), cell(z + 1, 0, x));
        if (here && z === 0) quad(cell(0, y, x), cell(0, y, x + 1), cell(0, y + 1, x + 1), cell(0, y + 1, x));
      }
    }
  }
  return { places: new Float32Array(places), normals: new Float32Array(normals), triangles: new Uint32Array(triangles) };
}
