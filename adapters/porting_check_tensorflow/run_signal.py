"""Fourier transforms, windows and the mel matrix."""

from __future__ import annotations

import math
from typing import Dict, Sequence

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes, tf_dtype


def _complex(x: tf.Tensor) -> tf.Tensor:
    """The last axis holds real parts, or real and imaginary parts."""
    imaginary = tf.zeros_like(x[..., 0]) if sizes(x)[-1] == 1 else x[..., 1]
    return tf.complex(x[..., 0], imaginary)


def _parts(x: tf.Tensor) -> tf.Tensor:
    """Real and imaginary parts along a new last axis."""
    return tf.stack([tf.math.real(x), tf.math.imag(x)], axis=-1)


def _fit(x: tf.Tensor, length: int) -> tf.Tensor:
    """The last axis cut or padded with zeros."""
    x = x[..., :length]
    return tf.pad(x, [(0, 0)] * (rank(x) - 1) + [(0, length - sizes(x)[-1])])


def dft(call: Call) -> Result:
    """ONNX DFT; ``inverse`` with ``onesided`` gives a real signal."""
    axis = call.integer(2, -2) if call.input(2) is not None else call.get("axis", -2)
    axis = axis % rank(call.x)
    signal, onesided = _complex(call.x), bool(call.get("onesided", 0))
    perm = [at for at in range(rank(signal)) if at != axis] + [axis]
    back = [perm.index(at) for at in range(rank(signal))]
    signal = tf.transpose(signal, perm)
    if call.get("inverse", 0) and onesided:
        length = call.integer(1, 2 * (sizes(call.x)[axis] - 1))
        real = tf.signal.irfft(_fit(signal, length // 2 + 1), [length])
        return tf.transpose(real, back)[..., None]
    length = call.integer(1, sizes(call.x)[axis])
    transform = tf.signal.ifft if call.get("inverse", 0) else tf.signal.fft
    result = transform(_fit(signal, length))
    result = result[..., : length // 2 + 1] if onesided else result
    return _parts(tf.transpose(result, back))


def stft(call: Call) -> Result:
    """ONNX STFT: framed, windowed transforms along the second axis."""
    window = call.input(2)
    length = call.integer(3, sizes(call.x)[1] if window is None else sizes(window)[0])
    signal = _complex(call.x) if rank(call.x) == 3 else tf.complex(call.x, tf.zeros_like(call.x))
    frames = tf.signal.frame(signal, length, call.integer(1, 1))
    if window is not None:
        frames = frames * tf.complex(window, tf.zeros_like(window))
    result = tf.signal.fft(frames)
    return _parts(result[..., : length // 2 + 1] if call.get("onesided", 1) else result)


def _window(weights: Sequence[float]) -> Handler:
    """A sum of cosines ``w0 - w1 cos + w2 cos 2 …``; with the periodic form and float32 as defaults."""

    def run(call: Call) -> Result:
        size = call.integer(0, 0)
        period = size if call.get("periodic", 1) else size - 1
        angle = tf.range(size, dtype=tf.float64) * (2 * math.pi / max(period, 1))
        terms = [(-1) ** order * weight * tf.cos(order * angle) for order, weight in enumerate(weights)]
        return tf.cast(tf.add_n(terms), tf_dtype(call.dtype(call.get("output_datatype", 1))))

    return run


def mel_weights(call: Call) -> Result:
    """ONNX MelWeightMatrix: triangular filters between bins that are spaced evenly on the mel scale."""
    bands, length, rate = call.integer(0, 0), call.integer(1, 0), call.integer(2, 0)
    low, high = (2595.0 * math.log10(1.0 + call.number(index, 0.0) / 700.0) for index in (3, 4))
    mels = low + tf.range(bands + 2, dtype=tf.float64) * ((high - low) / (bands + 2))
    hertz = 700.0 * (tf.pow(tf.constant(10.0, tf.float64), mels / 2595.0) - 1.0)
    bins = tf.floor((length + 1) * hertz / rate)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    rows = tf.range(length // 2 + 1, dtype=tf.float64)[:, None]
    peak = tf.cast(rows == centre, tf.float64)
    rising = tf.where(centre > left, (rows - left) / tf.maximum(centre - left, 1), peak)
    falling = (right - rows) / tf.maximum(right - centre, 1)
    result = tf.where((rows >= left) & (rows <= centre), rising, tf.zeros_like(rising))
    result = tf.where((rows >= centre) & (rows < right), falling, result)
    return tf.cast(result, tf_dtype(call.dtype(call.get("output_datatype", 1))))


OPERATORS: Dict[str, Handler] = {
    "DFT": dft,
    "STFT": stft,
    "HannWindow": _window((0.5, 0.5)),
    "HammingWindow": _window((25.0 / 46.0, 21.0 / 46.0)),
    "BlackmanWindow": _window((0.42, 0.5, 0.08)),
    "MelWeightMatrix": mel_weights,
}
