"""What a machine is, as far as it changes numbers: its processor, what that can do, and settings that libraries read."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Dict, Iterable, Mapping, Optional

if TYPE_CHECKING:
    from porting_check.neutral.adapter import Adapter
    from porting_check.neutral.trace import Environment

FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "bf16",
    "sve",
    "sve2",
)
"""Instruction sets that kernels choose between; each choice has its own order of summation."""

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "ATEN_CPU_CAPABILITY",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "TF_KERAS",
    "TF_USE_LEGACY_KERAS",
    "KERAS_BACKEND",
)
"""Environment variables that change numbers; only these are recorded, for others may hold secrets."""


def machine(cpuinfo: str = "/proc/cpuinfo", variables: Mapping[str, str] = os.environ) -> Dict[str, str]:
    """Facts of this machine by name: processor, instruction sets, cores, C library, and the settings that are in force.

    Example:
        >>> sorted(machine("", {"OMP_NUM_THREADS": "2"}))[:2]
        ['OMP_NUM_THREADS', 'cores']

    Args:
        cpuinfo: what Linux says of its processors; may be missing.
        variables: of the process.
    """
    found = {"cores": str(_cores()), "processor": platform.processor() or platform.machine()}
    found.update(_linux(cpuinfo))
    library = " ".join(platform.libc_ver()).strip()
    if library and sys.platform.startswith("linux"):
        found["libc"] = library
    found.update({name: variables[name] for name in VARIABLES if name in variables})
    return found


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _linux(cpuinfo: str) -> Dict[str, str]:
    """The processor's name and instruction sets from ``/proc/cpuinfo``."""
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            lines = file.read(2**20).splitlines()
    except OSError:
        return {}
    found: Dict[str, str] = {}
    name = _first(lines, ("model name", "Model"))
    flags = set(_first(lines, ("flags", "Features")).split())
    if name:
        found["processor"] = name
    if flags:
        found["instructions"] = " ".join(flag for flag in FLAGS if flag in flags)
    return found


def _first(lines: Iterable[str], keys: Iterable[str]) -> str:
    wanted = tuple(keys)
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() in wanted:
            return value.strip()
    return ""


def surroundings(adapter: Adapter, origin: Optional[Mapping[str, str]] = None) -> Environment:
    """The adapter's environment with the machine, and with what pins it."""
    return replace(adapter.environment(), machine=machine(), origin=dict(origin or {}))
