#!/usr/bin/env python3
"""DeepFinder's network in PyTorch, timed in every layout that PyTorch offers: one JSON object a line.

    torch_unet.py [--device cpu] [--threads N] [--cube 96] [--batch 4] [--patch 56] [--scores 13] [--compile]
"""
import argparse
import json
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class UNet(nn.Module):
    """Two levels, "same" padding; layer by layer as in crates/deepfinder-net/src/architecture.rs."""

    def __init__(self, scores):
        super().__init__()
        conv = lambda inputs, outputs: nn.Conv3d(inputs, outputs, 3, padding=1)
        self.full_encode = nn.ModuleList([conv(1, 32), conv(32, 32)])
        self.half_encode = nn.ModuleList([conv(32, 48), conv(48, 48)])
        self.quarter = nn.ModuleList([conv(48, 64), conv(64, 64), conv(64, 64), conv(64, 64)])
        self.half_upsample = nn.Conv3d(64, 64, 2)
        self.half_decode = nn.ModuleList([conv(64 + 48, 48), conv(48, 48)])
        self.full_upsample = nn.Conv3d(48, 48, 2)
        self.full_decode = nn.ModuleList([conv(48 + 32, 32), conv(32, 32)])
        self.head = nn.Conv3d(32, scores, 1)

    @staticmethod
    def chain(layers, x):
        for layer in layers:
            x = F.relu(layer(x))
        return x

    @staticmethod
    def up(layer, x):
        # Keras' "same" for a kernel of 2: zeros behind.
        return F.relu(layer(F.pad(F.interpolate(x, scale_factor=2), (0, 1, 0, 1, 0, 1))))

    def forward(self, x):
        high = self.chain(self.full_encode, x)
        mid = self.chain(self.half_encode, F.max_pool3d(high, 2))
        low = self.chain(self.quarter, F.max_pool3d(mid, 2))
        x = self.chain(self.half_decode, torch.cat([self.up(self.half_upsample, low), mid], 1))
        x = self.chain(self.full_decode, torch.cat([self.up(self.full_upsample, x), high], 1))
        return self.head(x)


def dice(logits, target):
    """One minus Dice, added up over the classes."""
    p = logits.float().softmax(1)
    over = (0, 2, 3, 4)
    hit = (p * target).sum(over)
    return (1 - 2 * hit / ((p + target).sum(over) + 1e-6)).sum()


def median_seconds(work, runs, synchronize):
    work()
    seconds = []
    for _ in range(runs):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cube", type=int, default=96)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=56)
    parser.add_argument("--scores", type=int, default=13)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    synchronize = torch.cuda.synchronize if options.device != "cpu" else lambda: None
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    layouts = {"ncdhw": torch.contiguous_format, "ndhwc": torch.channels_last_3d}
    compilers = [False, True] if options.compile else [False]

    def report(what, dtype, layout, compiled, images, side, work):
        row = {"peer": f"torch {torch.__version__}", "what": what, "dtype": dtype, "layout": layout,
               "compiled": compiled, "device": options.device, "shape": [images, side]}
        try:
            seconds = median_seconds(work, options.runs, synchronize)
            row |= {"seconds": seconds, "mvoxels_per_second": images * side**3 / seconds / 1e6}
        except Exception as error:  # what the peer can't do here is no reason to stop
            row["error"] = str(error)[:200]
        print(json.dumps(row), flush=True)

    for dtype in options.dtypes.split(","):
        for layout, memory in layouts.items():
            for compiled in compilers:
                net = UNet(options.scores).eval().to(options.device, dtypes[dtype]).to(memory_format=memory)
                cube = torch.randn(1, 1, *[options.cube] * 3, device=options.device, dtype=dtypes[dtype])
                cube = cube.to(memory_format=memory)
                forward = torch.compile(net) if compiled else net

                def infer():
                    with torch.inference_mode():
                        return forward(cube).softmax(1)

                report("infer", dtype, layout, compiled, 1, options.cube, infer)

    sides = [options.patch] * 3
    patches = torch.randn(options.batch, 1, *sides, device=options.device)
    labels = torch.randint(0, options.scores, (options.batch, *sides), device=options.device)
    target = F.one_hot(labels, options.scores).permute(0, 4, 1, 2, 3).float()
    for dtype in options.dtypes.split(","):
        for layout, memory in layouts.items():
            for compiled in compilers:
                net = UNet(options.scores).to(options.device).to(memory_format=memory)
                optimiser = torch.optim.Adam(net.parameters(), 1e-4)
                forward = torch.compile(net) if compiled else net
                batch = patches.to(memory_format=memory)

                def step():
                    optimiser.zero_grad(set_to_none=True)
                    kind = options.device.split(":")[0]
                    with torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == "bf16"):
                        logits = forward(batch)
                    dice(logits, target).backward()
                    optimiser.step()

                report("train", dtype, layout, compiled, options.batch, options.patch, step)


if __name__ == "__main__":
    main()
