"""Fourier transforms, windows and the mel matrix."""

from __future__ import annotations

from typing import Dict, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check_jax.run_call import Call, Handler, Result, jax_dtype


def _complex(x: jax.Array) -> jax.Array:
    """The last axis holds real parts, or real and imaginary parts; JAX transforms float32 and float64."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x[..., 0] if x.shape[-1] == 1 else lax.complex(x[..., 0], x[..., 1])


def _parts(result: jax.Array, call: Call) -> jax.Array:
    """Real and imaginary parts on a last axis, in the type of the input."""
    return jnp.stack([result.real, result.imag], axis=-1).astype(call.x.dtype)


def dft(call: Call) -> Result:
    """ONNX DFT; ``inverse`` with ``onesided`` gives a real signal."""
    call.floating()
    axis = call.integer(2, -2) if call.input(2) is not None else call.get("axis", -2)
    axis = axis % call.x.ndim
    signal, onesided, sizes = _complex(call.x), bool(call.get("onesided", 0)), call.x.shape
    if call.get("inverse", 0):
        if onesided:
            length = call.integer(1, 2 * (sizes[axis] - 1))
            return jnp.fft.irfft(signal, n=length, axis=axis)[..., None].astype(call.x.dtype)
        return _parts(jnp.fft.ifft(signal, n=call.integer(1, sizes[axis]), axis=axis), call)
    length = call.integer(1, sizes[axis])
    result = jnp.fft.fft(signal, n=length, axis=axis)
    if onesided:
        result = lax.slice_in_dim(result, 0, length // 2 + 1, axis=axis)
    return _parts(result, call)


def stft(call: Call) -> Result:
    """ONNX STFT: framed, windowed transforms along the second axis."""
    call.floating()
    window = call.input(2)
    length = call.integer(3, call.x.shape[1] if window is None else window.shape[0])
    signal = _complex(call.x if call.x.ndim == 3 else call.x[..., None])
    begins = np.arange(0, signal.shape[1] - length + 1, call.integer(1, 1))
    frames = signal[:, begins[:, None] + np.arange(length)]
    frames = frames if window is None else frames * window
    result = jnp.fft.fft(frames, axis=-1)
    if call.get("onesided", 1):
        result = result[..., : length // 2 + 1]
    return _parts(result, call)


def _window(coefficients: Sequence[float]) -> Handler:
    """A sum of cosines over ``size`` points; ONNX's default is the periodic one, in float32.

    Source: the ONNX operators HannWindow, HammingWindow and BlackmanWindow.
    """

    def run(call: Call) -> Result:
        size = call.integer(0, 0)
        period = size if call.get("periodic", 1) else max(1, size - 1)
        angle = jnp.arange(size, dtype=jnp.float64) * (2 * np.pi / max(1, period))
        signs = [1, -1, 1][: len(coefficients)]
        terms = [sign * part * jnp.cos(k * angle) for k, (sign, part) in enumerate(zip(signs, coefficients))]
        return sum(terms, jnp.zeros_like(angle)).astype(jax_dtype(call.dtype(call.get("output_datatype", 1))))

    return run


def mel_weights(call: Call) -> Result:
    """ONNX MelWeightMatrix: triangular filters between bins that are spaced evenly on the mel scale."""
    bands, length, rate = call.integer(0, 0), call.integer(1, 0), call.integer(2, 0)
    edges = jnp.array([call.number(3, 0.0), call.number(4, 0.0)], dtype=jnp.float64)
    low, high = 2595.0 * jnp.log10(1.0 + edges / 700.0)
    mels = low + jnp.arange(bands + 2, dtype=jnp.float64) * ((high - low) / (bands + 2))
    hertz = 700.0 * (jnp.power(10.0, mels / 2595.0) - 1.0)
    bins = jnp.floor((length + 1) * hertz / rate)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    rows = jnp.arange(length // 2 + 1, dtype=jnp.float64)[:, None]
    peak = (rows == centre).astype(jnp.float64)
    rising = jnp.where(centre > left, (rows - left) / jnp.maximum(centre - left, 1), peak)
    falling = (right - rows) / jnp.maximum(right - centre, 1)
    result = jnp.where((rows >= left) & (rows <= centre), rising, jnp.zeros_like(rising))
    result = jnp.where((rows >= centre) & (rows < right), falling, result)
    return result.astype(jax_dtype(call.dtype(call.get("output_datatype", 1))))


OPERATORS: Dict[str, Handler] = {
    "DFT": dft,
    "STFT": stft,
    "HannWindow": _window((0.5, 0.5)),
    "HammingWindow": _window((25.0 / 46.0, 21.0 / 46.0)),
    "BlackmanWindow": _window((0.42, 0.5, 0.08)),
    "MelWeightMatrix": mel_weights,
}
