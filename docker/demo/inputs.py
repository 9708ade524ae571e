"""What both sides are given: one image in each side's layout, and the weights; all drawn from a fixed seed.

    python inputs.py FOLDER

The numbers of a public question (TensorFlow 2.5 against PyTorch 1.10): everything uniform in [0, 1), so that sums grow to 1600.
"""

from __future__ import annotations

import os
import sys

import numpy as np

HEIGHT, WIDTH, INPUT_CHANNELS, OUTPUT_CHANNELS, KERNEL_SIZE = 16, 32, 256, 512, 5


def main(folder: str) -> None:
    """Write ``image-nhwc.npy``, ``image-nchw.npy`` and ``weights.npz`` into the folder."""
    draw = np.random.default_rng(0)
    image = draw.random((1, HEIGHT, WIDTH, INPUT_CHANNELS)).astype(np.float32)
    kernel = draw.random((KERNEL_SIZE, KERNEL_SIZE, INPUT_CHANNELS, OUTPUT_CHANNELS)).astype(np.float32)
    bias = draw.random(OUTPUT_CHANNELS).astype(np.float32)
    np.save(os.path.join(folder, "image-nhwc.npy"), image)
    np.save(os.path.join(folder, "image-nchw.npy"), np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    np.savez(os.path.join(folder, "weights.npz"), kernel=kernel, bias=bias)
    print(f"inputs: an image of {image.shape} and a kernel of {kernel.shape} in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
