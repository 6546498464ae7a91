#!/usr/bin/env python3
"""A whole volume by TensorFlow as the publication does it, timed: patches that overlap, scores averaged, labels.

    tensorflow_patches.py VOLUME.mrc WEIGHTS.h5 LABELS.npy [--patch 80] [--threads N]

Written from the description of the plan (paper, Methods, "Segmentation"), with Keras' predict for each patch. The labels are
written as NumPy has them, and one JSON object is printed.
"""
import argparse
import itertools
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import h5py
import numpy as np
import tensorflow as tf
from tensorflow.keras import Model, layers

CROP = 25
STEP_BELOW_PATCH = 54


def unet(patch, scores):
    def conv(x, channels, size=3):
        return layers.Conv3D(channels, size, padding="same", activation="relu")(x)

    source = x = layers.Input((patch, patch, patch, 1))
    high = x = conv(conv(x, 32), 32)
    x = layers.MaxPooling3D(2)(x)
    mid = x = conv(conv(x, 48), 48)
    x = layers.MaxPooling3D(2)(x)
    for _ in range(4):
        x = conv(x, 64)
    x = conv(layers.UpSampling3D(2)(x), 64, 2)
    x = conv(conv(layers.Concatenate()([x, mid]), 48), 48)
    x = conv(layers.UpSampling3D(2)(x), 48, 2)
    x = conv(conv(layers.Concatenate()([x, high]), 32), 32)
    return Model(source, layers.Conv3D(scores, 1, padding="same", activation="softmax")(x))


def load_weights(model, path):
    """Layer by layer: the file's own names are those of another Keras."""
    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        stored = [group[name] for name in group.attrs["layer_names"] if len(group[name].attrs["weight_names"])]
        weighted = [layer for layer in model.layers if layer.weights]
        assert len(stored) == len(weighted), "another network"
        for layer, values in zip(weighted, stored):
            layer.set_weights([values[name][()] for name in values.attrs["weight_names"]])


def scores_of(path):
    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        last = group[group.attrs["layer_names"][-1]]
        return last[last.attrs["weight_names"][-1]].shape[0]


def read_volume(path):
    with open(path, "rb") as file:
        header = np.frombuffer(file.read(1024), "<i4")
        x, y, z, mode = header[:4]
        assert mode == 2, "voxels are f32"
        file.seek(1024 + header[23])
        return np.frombuffer(file.read(4 * x * y * z), "<f4").reshape(z, y, x)


def starts(length, patch):
    last = length + 2 * CROP - patch
    return [*range(0, last, patch - STEP_BELOW_PATCH), last]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume")
    parser.add_argument("weights")
    parser.add_argument("labels")
    parser.add_argument("--patch", type=int, default=80)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)

    patch, kept = arguments.patch, arguments.patch - 2 * CROP
    scores = scores_of(arguments.weights)
    model = unet(patch, scores)
    load_weights(model, arguments.weights)
    volume = read_volume(arguments.volume)
    model.predict(np.zeros((1, patch, patch, patch, 1), np.float32), verbose=0)

    begin = time.perf_counter()
    padded = np.pad((volume - volume.mean()) / volume.std(), CROP)
    sums = np.zeros((*volume.shape, scores), np.float32)
    counts = np.zeros(volume.shape, np.float32)
    patches = list(itertools.product(*(starts(length, patch) for length in volume.shape)))
    for at in patches:
        window = padded[tuple(slice(start, start + patch) for start in at)]
        found = model.predict(window[None, ..., None], batch_size=1, verbose=0)[0]
        place = tuple(slice(start, start + kept) for start in at)
        sums[place] += found[CROP:-CROP, CROP:-CROP, CROP:-CROP]
        counts[place] += 1
    labels = np.argmax(sums / counts[..., None], axis=-1).astype(np.uint8)
    seconds = time.perf_counter() - begin
    np.save(arguments.labels, labels)
    print(json.dumps({"peer": f"tensorflow {tf.__version__}", "what": "segment", "dtype": "f32", "patches": len(patches),
                      "voxels": int(volume.size), "seconds": seconds}))


if __name__ == "__main__":
    main()
