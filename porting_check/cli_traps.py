"""What is known to get in the way of running models here, found without importing any framework."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

Versions = Mapping[str, str]
"""Version by distribution name, of those that are installed."""

FRAMEWORKS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "torchvision"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly", "keras", "tf-keras"),
    "jax": ("jax", "jaxlib", "flax", "equinox"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnx"),
}
"""Distributions that belong to each framework. The extra and the adapter have the framework's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """Something that is known to get in the way, and how to mend it."""

    found: str
    mend: str


def present(name: str, versions: Versions) -> bool:
    """Whether the framework itself is installed, not only a library around it."""
    own = {"tensorflow": FRAMEWORKS["tensorflow"][:4], "onnxruntime": FRAMEWORKS["onnxruntime"][:2]}.get(
        name, (name,)
    )
    return any(distribution in versions for distribution in own)


def traps(versions: Versions, adapters: set[str], environment: Mapping[str, str], folder: Path) -> list[Trap]:
    """Everything known to get in the way, from versions, environment variables and the current folder."""
    checks = [
        _nothing(versions, adapters),
        cuda(versions, torch_cuda(), gpu=has_gpu()),
        *_doubled(versions),
        *_keras(versions, environment),
        *_numpy(versions),
        *_variables(environment),
        *_shadows(folder),
    ]
    return [trap for trap in checks if trap is not None]


def _nothing(versions: Versions, adapters: set[str]) -> Trap | None:
    if any(present(name, versions) for name in FRAMEWORKS):
        if adapters:
            return None
        return Trap(
            found="no adapter is registered",
            mend="install porting-check itself (pip install porting-check), not only its folder",
        )
    return Trap(
        found="no framework is installed: models cannot be run here, only recordings compared",
        mend="pip install 'porting-check[torch,tensorflow]', or the extras of the frameworks that you use",
    )


def torch_cuda() -> str:
    """The CUDA version that torch was built for, read from its files; empty for a CPU build."""
    try:
        text = Path(str(metadata.distribution("torch").locate_file("torch/version.py"))).read_text(
            encoding="utf-8"
        )
    except (metadata.PackageNotFoundError, OSError):
        return ""
    found = re.search(r"^cuda\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE)
    return found.group(1) if found else ""


def has_gpu() -> bool:
    """Whether there is an NVIDIA driver."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def cuda(versions: Versions, built: str, *, gpu: bool) -> Trap | None:
    """What a CUDA build of torch means: other numbers with a GPU, gigabytes for nothing without one."""
    if "torch" not in versions or not built:
        return None
    if gpu:
        return Trap(
            found=f"torch {versions['torch']} computes with CUDA {built}: convolutions use TF32 by default",
            mend="for full float32: torch.backends.cudnn.allow_tf32 = False, or set CUDA_VISIBLE_DEVICES=''",
        )
    return Trap(
        found=f"torch {versions['torch']} is a CUDA {built} build, and there is no NVIDIA driver",
        mend="pip install torch --index-url https://download.pytorch.org/whl/cpu",
    )


def _doubled(versions: Versions) -> list[Trap]:
    """Two distributions that own the same files overwrite each other."""
    groups = (FRAMEWORKS["tensorflow"][:4], FRAMEWORKS["onnxruntime"][:2])
    both = [[name for name in group if name in versions] for group in groups]
    return [
        Trap(
            found=f"{' and '.join(names)} are installed together and overwrite each other",
            mend=f"pip uninstall {' '.join(names)}; then install one",
        )
        for names in both
        if len(names) > 1
    ]


def _keras(versions: Versions, environment: Mapping[str, str]) -> list[Trap]:
    found = []
    flow = next((versions[name] for name in FRAMEWORKS["tensorflow"][:4] if name in versions), "")
    keras = versions.get("keras", "")
    if flow and keras and release(flow) >= (2, 16) and release(keras) < (3,):
        found.append(
            Trap(
                found=f"tensorflow {flow} needs Keras 3, and keras {keras} is installed",
                mend="pip install 'keras>=3'",
            )
        )
    if flow and keras and release(flow) < (2, 16) and release(keras) >= (3,):
        found.append(
            Trap(
                found=f"tensorflow {flow} needs Keras 2, and keras {keras} is installed",
                mend="pip install 'keras<3'",
            )
        )
    backend = environment.get("KERAS_BACKEND", "tensorflow")
    if keras and backend != "tensorflow":
        found.append(
            Trap(
                found=f"KERAS_BACKEND={backend}: Keras models do not run on TensorFlow",
                mend="unset KERAS_BACKEND",
            )
        )
    if (
        environment.get("TF_USE_LEGACY_KERAS", "") in ("1", "True", "true")
        and flow
        and "tf-keras" not in versions
    ):
        found.append(
            Trap(
                found="TF_USE_LEGACY_KERAS is set, and tf-keras is not installed",
                mend="pip install tf-keras, or unset it",
            )
        )
    return found


def _numpy(versions: Versions) -> list[Trap]:
    """Frameworks that were built before numpy 2 fail with it, often with a message about something else."""
    if release(versions.get("numpy", "0")) < (2,):
        return []
    old = [
        (name, limit)
        for name, limit in (("torch", (2, 3)), ("tensorflow", (2, 18)), ("onnxruntime", (1, 19)))
        if name in versions
    ]
    return [
        Trap(
            found=f"{name} {versions[name]} needs numpy 1, and numpy {versions['numpy']} is installed",
            mend="pip install 'numpy<2'",
        )
        for name, limit in old
        if release(versions[name]) < limit
    ]


VARIABLES: Mapping[str, str] = {
    "NVIDIA_TF32_OVERRIDE": "switches TF32 for every framework",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "switches TF32 for torch's matrix products",
    "TF_ENABLE_ONEDNN_OPTS": "switches TensorFlow's oneDNN kernels",
    "XLA_FLAGS": "changes how XLA compiles",
    "JAX_ENABLE_X64": "changes JAX's default precision",
    "JAX_DEFAULT_MATMUL_PRECISION": "changes the precision of JAX's matrix products",
    "ONEDNN_DEFAULT_FPMATH_MODE": "lets oneDNN compute in bfloat16 or TF32",
    "DNNL_DEFAULT_FPMATH_MODE": "lets oneDNN compute in bfloat16 or TF32",
}
"""Environment variables that change numbers."""


def _variables(environment: Mapping[str, str]) -> list[Trap]:
    return [
        Trap(found=f"{name}={environment[name]} {effect}", mend=f"intended? Otherwise: unset {name}")
        for name, effect in VARIABLES.items()
        if environment.get(name)
    ]


def _shadows(folder: Path) -> list[Trap]:
    """Files in the current folder that would be imported in place of a framework."""
    names = ("torch", "tensorflow", "keras", "tf_keras", "jax", "flax", "onnx", "onnxruntime", "numpy")
    files = [
        path
        for name in names
        for path in (folder / f"{name}.py", folder / name / "__init__.py")
        if path.is_file()
    ]
    shadows = [path.relative_to(folder) for path in files if not (folder / path.stem / "py.typed").exists()]
    return [
        Trap(
            found=f"{path} in the current folder hides the package of that name",
            mend="rename it, or run from another folder",
        )
        for path in shadows
    ]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, as far as they go.

    Example:
        >>> release("2.13.0+cpu"), release("3.0rc1"), release("")
        ((2, 13, 0), (3, 0), ())
    """
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
