"""What both sides are given: one image per network in each side's layout, and the convolution's weights; from a fixed seed.

    python inputs.py FOLDER

``conv``: the numbers of a public question (TensorFlow 2.5 against PyTorch 1.10), all uniform in [0, 1), so that sums grow to
1600. ``pnet``: two images of odd size, uniform in [-1, 1).
"""

from __future__ import annotations

import os
import sys

import numpy as np

HEIGHT, WIDTH, INPUT_CHANNELS, OUTPUT_CHANNELS, KERNEL_SIZE = 16, 32, 256, 512, 5


def main(folder: str) -> None:
    """Write ``NETWORK-nhwc.npy`` and ``NETWORK-nchw.npy`` of both networks, and ``weights.npz``, into the folder."""
    draw = np.random.default_rng(0)
    image = draw.random((1, HEIGHT, WIDTH, INPUT_CHANNELS)).astype(np.float32)
    kernel = draw.random((KERNEL_SIZE, KERNEL_SIZE, INPUT_CHANNELS, OUTPUT_CHANNELS)).astype(np.float32)
    bias = draw.random(OUTPUT_CHANNELS).astype(np.float32)
    np.savez(os.path.join(folder, "weights.npz"), kernel=kernel, bias=bias)
    images = {"conv": image, "pnet": draw.uniform(-1, 1, (2, 47, 61, 3)).astype(np.float32)}
    for network, values in images.items():
        np.save(os.path.join(folder, f"{network}-nhwc.npy"), values)
        np.save(
            os.path.join(folder, f"{network}-nchw.npy"), np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        )
        print(f"inputs: {network}, {values.shape}, in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
