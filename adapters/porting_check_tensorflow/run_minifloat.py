"""Floats of one byte or less that TensorFlow cannot convert: their bits, by tables of their values."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise


class Format(NamedTuple):
    """A float of ``1 + exponent + mantissa`` bits; ``nan``: the bits of its only NaN, -1 when it has none."""

    exponent: int
    mantissa: int
    bias: int
    nan: int

    @property
    def half(self) -> int:
        """How many magnitudes there are, which is also the sign bit."""
        return 1 << (self.exponent + self.mantissa)


FORMATS: Dict[str, Format] = {
    "float8_e4m3fnuz": Format(4, 3, 8, 0x80),
    "float8_e5m2fnuz": Format(5, 2, 16, 0x80),
    "float4_e2m1fn": Format(2, 1, 1, -1),
}
"""ONNX "Float stored in 8 bits" and the OCP microscaling formats; all their exponents hold finite values."""


def magnitudes(form: Format) -> List[float]:
    """The magnitude of every pattern of exponent and mantissa, ascending."""
    values = []
    for code in range(form.half):
        exponent, fraction = divmod(code, 1 << form.mantissa)
        part = fraction / (1 << form.mantissa)
        values.append((part + (exponent > 0)) * 2.0 ** (max(exponent, 1) - form.bias))
    return values


def encode(x: tf.Tensor, name: str, saturate: bool) -> tf.Tensor:
    """The bits of the nearest values, ties to even; beyond the largest: that, or NaN when not saturating."""
    form = FORMATS[name]
    table = tf.constant(magnitudes(form), tf.float64)
    wide = tf.cast(x, tf.float64)
    nan = tf.math.is_nan(wide)
    size = tf.where(nan, tf.zeros_like(wide), tf.abs(wide))
    middles = (table[1:] + table[:-1]) / 2
    place = tf.reshape(tf.searchsorted(middles, tf.reshape(size, [-1]), side="left"), size.shape)
    # a tie is left at the lower value; the one above is the even one when the lower place is odd
    tie = (
        (place < form.half - 1)
        & (size == tf.gather(middles, tf.minimum(place, form.half - 2)))
        & (place % 2 == 1)
    )
    place = place + tf.cast(tie, tf.int32)
    negative = (wide < 0) | ((wide == 0) & (1 / wide < 0))
    signed = negative & (place > 0) if form.nan >= 0 else negative
    bits = place + form.half * tf.cast(signed, tf.int32)
    if form.nan >= 0:
        step = table[-1] - table[-2]
        beyond = nan if saturate else nan | (size >= table[-1] + step / 2)
        bits = tf.where(beyond, form.nan, bits)
    return tf.cast(bits, tf.uint8)


def decode(bits: tf.Tensor, name: str) -> tf.Tensor:
    """The float32 values of these bits."""
    if name == "float8_e8m0fnu":
        powers = [2.0 ** (code - 127) for code in range(255)] + [float("nan")]
        return tf.gather(tf.constant(powers, tf.float32), tf.cast(bits, tf.int32))
    form = FORMATS[name]
    values = magnitudes(form)
    table = values + [-value for value in values]
    if form.nan >= 0:
        table[form.nan] = float("nan")
    return tf.gather(tf.constant(table, tf.float32), tf.cast(bits, tf.int32))


def encode_e8m0(x: tf.Tensor, saturate: bool, round_mode: str) -> tf.Tensor:
    """Powers of two (float8_e8m0fnu): the exponent of ``x``, rounded up, down or to the nearest."""
    bits = tf.bitcast(tf.cast(x, tf.float32), tf.int32)
    exponent = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 23), 0xFF)
    fraction = tf.bitwise.bitwise_and(bits, 0x7FFFFF)
    more = tf.zeros_like(fraction, dtype=tf.bool)
    if round_mode == "up":
        more = fraction > 0
    elif round_mode == "nearest":
        more = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    if saturate:
        more = more & (exponent != 0xFE)
    raised = exponent + tf.cast(more, tf.int32)
    return tf.cast(tf.where(exponent == 0xFF, exponent, raised), tf.uint8)


NATIVE: Tuple[str, ...] = ("float8_e4m3fn", "float8_e5m2")
"""One-byte floats that ``tf.cast`` converts itself."""
