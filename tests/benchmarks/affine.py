"""Affine convolution against plain and deformable convolution: a whole ResNet-50, forward and backward, in one run on one thread.

    python tests/benchmarks/affine.py [--preset mini|full] [--images 16]

Prints seconds of a step, the ratio to the plain network, and the peak memory of each in a process of its own.
"""

import argparse
import multiprocessing
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn
from torchvision.ops import deform_conv2d

from reidnb.models.affine import make_affine
from reidnb.models.blocks import make_network
from reidnb.models.configuration import Embedding
from reidnb.runs.presets import load_preset
from reidnb.runs.records import peak_memory


class Deformed(nn.Conv2d):
    "The same convolution through explicit offsets, as the notes' code must have done."

    def forward(self, x):
        k, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        h, w = ((n + 2 * padding - k) // stride + 1 for n in x.shape[2:])
        positions = torch.arange(k, dtype=x.dtype) - (k - 1) / 2
        dy, dx = ((self.dilation[:, a, None] - 1) * positions for a in (0, 1))
        offset = torch.stack(torch.broadcast_tensors(dy[:, :, None], dx[:, None, :]), -1).flatten(1)
        offset = offset[:, :, None, None].expand(-1, -1, h, w).contiguous()
        return deform_conv2d(x.contiguous(), offset, self.weight, self.bias, stride, padding)


def step_of(kind, preset_name, images):
    "A function that makes one training step."
    preset = load_preset(preset_name)
    size = preset.network_size("resnet50").model_copy(update=dict(weights="none"))
    torch.manual_seed(0)
    net = make_network(Embedding(), size).to(memory_format=torch.channels_last)
    x = torch.randn(images, 3, *preset.image_size).to(memory_format=torch.channels_last)
    dilation = (torch.rand(images, 2) * 0.5 + 0.75).requires_grad_()
    if kind.startswith("affine"):
        state = make_affine(net)
        state.dilation = dilation
        state.only_y = kind == "affine y"
        state.recompute = kind == "affine, recomputed"
    elif kind == "deformable":
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
                module.__class__, module.dilation = Deformed, dilation
    return lambda: net(x).square().mean().backward()


def measure(kind, preset, images, results):
    "Seconds of the fastest of three steps, and the peak memory of this process above what torch itself takes."
    torch.set_num_threads(1)
    before, step, seconds = peak_memory(), step_of(kind, preset, images), []
    for _ in range(4):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    results.put((kind, min(seconds[1:]), peak_memory() - before))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini", choices=("mini", "full"))
    parser.add_argument("--images", type=int, default=16)
    args = parser.parse_args()
    context, found = multiprocessing.get_context("spawn"), {}
    for kind in ("plain", "affine", "affine, recomputed", "affine y", "deformable"):
        results = context.Queue()
        worker = context.Process(target=measure, args=(kind, args.preset, args.images, results))
        worker.start()
        name, seconds, memory = results.get()
        worker.join()
        found[name] = seconds, memory
        ratio, more = seconds / found["plain"][0], memory / found["plain"][1]
        print(
            f"{args.preset}, {args.images} images, {name:18} {seconds:7.3f} s = {ratio:5.2f} x   {memory:6.0f} MB = {more:4.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
