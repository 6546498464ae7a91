#!/usr/bin/env python3
"""scikit-learn's mean-shift on the particle voxels of a label map (8-bit MRC), timed: one JSON object.

    sklearn_mean_shift.py LABELS.mrc RADIUS
"""
import json
import sys
import time

import numpy as np
import sklearn
from sklearn.cluster import MeanShift


def read_labels(path):
    with open(path, "rb") as file:
        header = np.frombuffer(file.read(1024), "<i4")
        x, y, z, mode = header[:4]
        assert mode == 0, "labels are 8-bit"
        file.seek(1024 + header[23])
        return np.frombuffer(file.read(x * y * z), np.uint8).reshape(z, y, x)


def main():
    path, radius = sys.argv[1], float(sys.argv[2])
    voxels = np.argwhere(read_labels(path) > 0).astype(float)
    start = time.perf_counter()
    clusters = MeanShift(bandwidth=radius, bin_seeding=True).fit(voxels)
    print(json.dumps({"peer": f"scikit-learn {sklearn.__version__}", "what": "mean-shift", "voxels": len(voxels),
                      "clusters": len(clusters.cluster_centers_), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
