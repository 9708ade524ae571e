"""Finding adapters. One mechanism: entry points of the group ``porting_check.adapters``, built-in adapters too.

Inside ``porting-check-recorder.pyz``, where nothing is installed, a table stands for them that was written from the entry
points when the file was built.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import pkgutil
import sys
import types
from typing import Any, Callable, Dict, List, Tuple

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import FrameworkMissing

GROUP = "porting_check.adapters"
TABLE = "packed.json"
"""In a packed recorder, beside this module: ``{"adapters": {framework: "module:class"}}``."""

_CACHE: Dict[str, Adapter] = {}

PARTS_OF = {"tensorflow": "keras"}
"""Packages that come with a framework; without one the framework is not installed properly."""

MAKERS = {"onnx": "onnxruntime"}
"""Packages whose objects are models of a framework that need not be loaded yet."""


def installed() -> Dict[str, Callable[[], Any]]:
    """Adapters by framework name, as functions that import the adapter's class; imports nothing itself.

    Raises:
        FrameworkMissing: two distributions provide an adapter of the same name.
    """
    table = packed_table()
    if table:
        return {name: functools.partial(_named, value) for name, value in table.items()}
    found: Dict[str, Callable[[], Any]] = {}
    origins: Dict[str, str] = {}
    for entry in _entry_points():
        if origins.setdefault(entry.name, entry.value) != entry.value:
            raise FrameworkMissing(
                f"two adapters are registered for {entry.name!r}: {origins[entry.name]} and {entry.value}; uninstall one"
            )
        found[entry.name] = entry.load
    return found or _packed()


@functools.lru_cache(maxsize=None)
def packed_table() -> Dict[str, str]:
    """Adapters of a packed recorder, ``module:class`` by framework; empty where porting-check is installed."""
    try:
        data = pkgutil.get_data(__package__, TABLE)
    except OSError:
        data = None
    return dict(json.loads(data.decode("utf-8"))["adapters"]) if data else {}


def _named(value: str) -> Any:
    """What an entry point's ``module:class`` names."""
    module, _, path = value.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def _entry_points() -> List[Any]:
    """Entry points of the group, on every Python from 3.7 (where the module may be missing)."""
    try:
        from importlib import metadata
    except ImportError:
        return []
    entries = metadata.entry_points()
    if hasattr(entries, "select"):
        return list(entries.select(group=GROUP))
    return list(entries.get(GROUP, []))  # type: ignore[attr-defined, unused-ignore]  # Python 3.8 and 3.9


def _packed() -> Dict[str, Callable[[], Any]]:
    """Adapters that lie on the path without being installed, as in the packed recorder: ``porting_check_<framework>``."""
    prefix = "porting_check_"
    names = [module.name for module in pkgutil.iter_modules() if module.name.startswith(prefix)]
    return {name[len(prefix) :]: _exported(name) for name in names}


def _exported(module: str) -> Callable[[], Any]:
    def load() -> Any:
        package = importlib.import_module(module)
        return next(v for k, v in sorted(vars(package).items()) if k.endswith("Adapter") and v is not Adapter)

    return load


def load_adapter(framework: str) -> Adapter:
    """The adapter of a framework; imports the framework.

    Example:
        >>> load_adapter("torch").framework      # doctest: +SKIP
        'torch'

    Raises:
        FrameworkMissing: no such adapter, its framework or a package that the adapter needs is not installed (the message
            says which, and what to install), or cannot be imported.
    """
    if framework in _CACHE:
        return _CACHE[framework]
    known = installed()
    if framework not in known:
        raise FrameworkMissing(
            f"no adapter for {framework!r} is installed; installed: {', '.join(sorted(known)) or 'none'}"
        )
    try:
        adapter: Adapter = known[framework]()()
    except ImportError as error:
        if (error.name or "").split(".")[0].startswith("porting_check"):
            raise  # a fault of the adapter itself
        raise _unusable(framework, error) from error
    if (
        importlib.util.find_spec(framework) is None
    ):  # an adapter may import its framework only when it is used
        raise _absent(framework, framework)
    _CACHE[framework] = adapter
    return adapter


def _absent(framework: str, missing: str) -> FrameworkMissing:
    way = f"run: pip install 'porting-check[{framework}]'"
    if packed_table():
        way = f"run the recorder with a Python that has {framework}; this one is {sys.executable}"
    return FrameworkMissing(f"{framework} is not installed here (no module {missing}); {way}")


def _unusable(framework: str, error: ImportError) -> FrameworkMissing:
    """Why an adapter cannot be used: its framework is missing, another package is, or one of them is broken."""
    missing = (error.name or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not missing:
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        return FrameworkMissing(
            f"{framework} cannot be used here: {said}; its installation is damaged or of a version that its adapter does "
            f"not know, in {sys.executable}"
        )
    if missing in (framework, PARTS_OF.get(framework)):
        return _absent(framework, missing)
    return FrameworkMissing(
        f"{framework} cannot be used here: its adapter also needs the package {missing}, which is not installed; run: "
        f"{sys.executable} -m pip install {missing}"
    )


def adapter_for(model: Any) -> Adapter:
    """The adapter that owns a live model. Only adapters whose framework is loaded already, or runs this type, are asked.

    Raises:
        FrameworkMissing: none owns it; the message names the object's type and what is installed.
    """
    runs = MAKERS.get(type(model).__module__.split(".")[0], "")
    loaded = [name for name in sorted(installed()) if name in sys.modules or name == runs]
    usable, unusable = _loaded(loaded)
    owners = [adapter for adapter in usable if adapter.owns(model)]
    if len(owners) > 1 and callable(model):
        named = mentioned(model)
        owners = [adapter for adapter in owners if adapter.framework in named] or owners
    if len(owners) == 1:
        return owners[0]
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if owners:
        names = ", ".join(adapter.framework for adapter in owners)
        raise FrameworkMissing(
            f"{kind} could belong to {names}; wrap it in that framework's module class to say which"
        )
    raise FrameworkMissing(
        f"no adapter owns an object of type {kind}. Expected a keras.Model, tf.Module, torch.nn.Module, "
        "onnx.ModelProto, a tf.function, a function of torch tensors or JAX arrays, "
        f"a trace or a path. Installed adapters: {', '.join(sorted(installed())) or 'none'}; "
        f"frameworks loaded: {', '.join(loaded) or 'none'}" + "".join(f". {reason}" for reason in unusable)
    )


def _loaded(frameworks: List[str]) -> Tuple[List[Adapter], List[str]]:
    """The adapters of these frameworks, and why others cannot be used: that must not keep a model from its own adapter."""
    usable: List[Adapter] = []
    unusable: List[str] = []
    for framework in frameworks:
        try:
            usable.append(load_adapter(framework))
        except FrameworkMissing as error:
            unusable.append(str(error))
    return usable, unusable


PARTS = {"flax": "jax", "equinox": "jax", "jaxlib": "jax", "keras": "tensorflow"}
"""Libraries whose objects speak for the framework that they stand on."""


def mentioned(function: Any) -> List[str]:
    """Frameworks that a function names in its globals or holds: in what it wraps, its closure, its bound arguments."""
    found: List[str] = []
    waiting, seen = [function], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found += origin(item)
        called = item if hasattr(item, "__code__") else type(item).__call__ if callable(item) else None
        code = getattr(called, "__code__", None)
        scope = getattr(called, "__globals__", {})
        for name in getattr(code, "co_names", ()):
            found += origin(scope[name]) if name in scope else []
        cells = [cell for cell in getattr(item, "__closure__", None) or () if _filled(cell)]
        waiting += [cell.cell_contents for cell in cells]
        waiting += [getattr(item, "__wrapped__", None), getattr(item, "func", None)]
        waiting += list(getattr(item, "args", ()) or ()) if isinstance(item, functools.partial) else []
    return found


def origin(item: Any) -> List[str]:
    """The framework that a module, class or object comes from."""
    if item is None:
        return []
    home = getattr(item, "__name__", "") if isinstance(item, types.ModuleType) else ""
    homes = [home, getattr(item, "__module__", ""), type(item).__module__]
    tops = [str(name).split(".")[0] for name in homes if name]
    return [PARTS.get(top, top) for top in tops]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
