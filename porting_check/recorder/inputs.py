"""Inputs of a model: from files, from seeded noise, and from one side's layout to the other's."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from porting_check.neutral.adapter import Inputs, InputSpec
from porting_check.neutral.errors import InputError, LayoutError
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.tensorfile import read_header, read_tensor

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
BATCHES = (3, 2, 5)
SIZES = (64, 96, 80, 112, 48, 128)
"""Sizes of free axes: even (an odd size hides SAME with stride 2), multiples of 16, pairwise different."""


def probe(specs: Sequence[InputSpec], seed: int = 0) -> Dict[str, np.ndarray]:
    """Seeded white noise for every input: standard normal for floats, uniform below ``limit`` for integers.

    The first axis gets a small batch where it is free; other free axes get pairwise different even sizes.

    Example:
        >>> probe([InputSpec("0", (None, None, None, 3), "float32", "NHWC")])["0"].shape
        (2, 64, 96, 3)

    Raises:
        InputError: nothing is known of the shape.
    """
    if not specs or any(spec.shape is None for spec in specs):
        known = ", ".join(spec.name for spec in specs) or "unknown names"
        raise InputError(
            f"the model does not say what shape its inputs have ({known}): give inputs (a file, or an array)"
        )
    rng = np.random.default_rng(seed)
    made: Dict[str, np.ndarray] = {}
    for spec in specs:
        shape = _shape(spec, [array.shape for array in made.values()])
        kind = np.dtype(spec.dtype) if spec.dtype in np.sctypeDict else np.dtype("float32")
        if kind.kind in "iu":
            made[spec.name] = rng.integers(0, spec.limit or 10, shape).astype(kind)
        elif kind.kind == "b":
            made[spec.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            made[spec.name] = rng.standard_normal(shape).astype(kind)
    return made


def _shape(spec: InputSpec, others: List[Tuple[int, ...]]) -> Tuple[int, ...]:
    """Free axes filled: the batch like the other inputs', the rest with sizes that occur nowhere else in the shape."""
    assert spec.shape is not None
    used: Set[int] = {size for size in spec.shape if size is not None}
    shape: List[int] = []
    for axis, size in enumerate(spec.shape):
        if size is None:
            choices = BATCHES if axis == 0 else SIZES + tuple(range(50, 400, 2))
            size = next(s for s in choices if s not in used)
            used.add(size)
        shape.append(size)
    for other in others:
        if spec.shape[0] is None and other:
            shape[0] = other[0]
    return tuple(shape)


def load_inputs(files: Mapping[str, str]) -> Dict[str, np.ndarray]:
    """Read input files: ``.npy`` and images give one array, ``.npz`` and ``.safetensors`` one per name.

    Args:
        files: path by input name; the name ``""`` takes the names in the file (or ``"0"``).

    Raises:
        InputError: a missing, damaged or unknown file, or Python objects inside (never unpickled).
    """
    made: Dict[str, np.ndarray] = {}
    for name, path in files.items():
        arrays = _read(path)
        if name and len(arrays) > 1:
            raise InputError(
                f"{path!r} holds {len(arrays)} arrays ({', '.join(list(arrays)[:5])}); expected one for input {name!r}"
            )
        made.update({name: next(iter(arrays.values()))} if name else arrays)
    return made


def _read(path: str) -> Dict[str, np.ndarray]:
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        raise InputError(f"the input file {path!r} does not exist")
    try:
        if suffix == ".npy":
            return {"0": np.load(path, allow_pickle=False)}
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        if suffix == ".safetensors":
            header = read_header(path)
            return {key: np.array(read_tensor(path, key, header)) for key in header["tensors"]}
        if suffix in IMAGES:
            return {"0": _image(path)}
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"the input file {path!r} cannot be read: {error}") from None
    raise InputError(
        f"the input file {path!r} has suffix {suffix!r}; expected .npy, .npz, .safetensors or an image {' '.join(IMAGES)}"
    )


def _image(path: str) -> np.ndarray:
    """An image as ``(1, H, W, 3)`` float32 in [0, 1], RGB, EXIF orientation applied."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError(f"{path!r} is an image; to read it, run: pip install pillow") from None
    with Image.open(path) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.float32)
    return pixels[None] / np.float32(255)


def named(inputs: Any, specs: Sequence[InputSpec]) -> Dict[str, np.ndarray]:
    """What a user gave (array, tuple, dict) as inputs by name, checked against what the model says of itself.

    Raises:
        InputError: not arrays, wrong names, count, rank, size or kind; says what was found and expected.
    """
    if isinstance(inputs, Mapping):
        given = {str(key): _array(key, value) for key, value in inputs.items()}
    else:
        items = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        given = {str(index): _array(index, value) for index, value in enumerate(items)}
    names = [spec.name for spec in specs if spec.name]
    by_position = _positional(given) or _positional(names)
    if len(given) == len(names) and set(given) != set(names) and by_position:
        given = dict(zip(names, given.values()))
    if names and len(given) == len(names) and set(given) != set(names):
        raise InputError(
            f"inputs are called {', '.join(sorted(given))}; the model calls them {', '.join(names)}"
        )
    for spec in specs:
        if spec.name in given:
            _check(spec, given[spec.name])
    return given


def _positional(names: Iterable[str]) -> bool:
    return all(name.isdigit() for name in names)


def _array(name: Any, value: Any) -> np.ndarray:
    """A plain numeric array; framework tensors that offer ``numpy()`` or ``__array__`` are welcome."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "fiubc" and array.dtype.kind != "V":
        raise InputError(
            f"input {name!r} is a {type(value).__name__} of dtype {array.dtype}; expected an array of numbers"
        )
    return array


def _check(spec: InputSpec, array: np.ndarray) -> None:
    if spec.shape is not None:
        agree = len(spec.shape) == array.ndim and all(
            s is None or s == n for s, n in zip(spec.shape, array.shape)
        )
        if not agree:
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in spec.shape) + ")"
            layout = f" in layout {spec.layout}" if spec.layout else ""
            raise InputError(
                f"input {spec.name!r} has shape {array.shape}; the model expects {wanted}{layout}"
            )
    wants_float = np.dtype(spec.dtype).kind == "f" if spec.dtype in np.sctypeDict else None
    if wants_float is False and array.dtype.kind == "f":
        raise InputError(f"input {spec.name!r} has dtype {array.dtype}; the model expects {spec.dtype}")
    limit = spec.limit if spec.certain else None
    if limit is not None and array.size and array.dtype.kind in "iu" and int(array.max()) >= limit:
        raise InputError(
            f"input {spec.name!r} holds {int(array.max())}; the model's table has {spec.limit} rows"
        )


def suited(layout: str, array: np.ndarray) -> str:
    """What a model is believed to want, where it has as many axes as the array; else "": it was a guess.

    Example:
        >>> suited("NHWC", np.zeros((1, 8, 8, 3))), suited("NHWC", np.zeros((4, 16)))
        ('NHWC', '')
    """
    return layout if layout and Layout(layout).ndim == array.ndim else ""


def fitting(layouts: Mapping[str, str], inputs: Inputs) -> Dict[str, str]:
    """Declared layouts, checked: each must be one, and have as many axes as its input.

    Example:
        >>> fitting({"0": "NHWC"}, {"0": np.zeros((1, 8, 8, 3))})
        {'0': 'NHWC'}

    Raises:
        InputError: letters that mean nothing, or another number of axes.
    """
    for name, text in layouts.items():
        if not text or name not in inputs:
            continue
        try:
            layout = Layout(text)
        except LayoutError as error:
            raise InputError(f"the layout {text!r} of input {name!r} is none: {error}") from None
        if layout.ndim != inputs[name].ndim:
            raise InputError(
                f"the layout {text!r} of input {name!r} has {layout.ndim} axes, the input has {inputs[name].ndim}: "
                f"{inputs[name].shape}"
            )
    return dict(layouts)


def translate(
    inputs: Inputs,
    layouts: Mapping[str, str],
    specs: Sequence[InputSpec],
    targets: Optional[Mapping[str, str]] = None,
) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """The reference's inputs as the candidate wants them: its names and its layouts.

    Args:
        inputs: by the reference's names, in its layouts.
        layouts: the reference's layout of each input ("" = unknown).
        specs: what the candidate says of its inputs.
        targets: layouts that the user declared for the candidate, by its names; they win.

    Returns:
        Inputs by the candidate's names, and the layout of each. An input whose layout is unknown on either side goes over
        as it is.

    Raises:
        InputError: another number of inputs, or a layout that cannot be reached.
    """
    required = [spec.name for spec in specs if spec.name] or list(inputs)
    if len(required) != len(inputs):
        raise InputError(
            f"the reference takes {len(inputs)} inputs ({', '.join(inputs)}), "
            f"the candidate {len(required)} ({', '.join(required)})"
        )
    same_names = set(required) == set(inputs)
    sources = required if same_names else list(inputs)
    known = {spec.name: spec.layout for spec in specs}
    made, used = {}, {}
    for name, source in zip(required, sources):
        array, layout = inputs[source], layouts.get(source, "")
        own = suited(known.get(name) or known.get("", ""), array)
        target = (targets or {}).get(name) or own or layout
        try:
            fits = bool(layout and target) and len(layout) == len(target) == array.ndim
            made[name] = (
                np.ascontiguousarray(convert(array, Layout(layout), Layout(target))) if fits else array
            )
        except LayoutError as error:
            raise InputError(
                f"input {source!r} cannot go from layout {layout} to {target}: {error}"
            ) from None
        used[name] = target
    return made, fitting(used, made)
