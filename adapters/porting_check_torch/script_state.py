"""The state that TorchScript keeps in attributes: saved before a run, put back after it."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Set

import torch

from porting_check_torch.script_graph import methods_of


class State:
    """Attributes that methods of compiled modules read or write.

    Parameters, buffers and modules are left out: they are looked after where Python modules' are.

    Args:
        modules: any modules; those that are not compiled are passed over.

    Example:
        >>> State([torch.nn.ReLU()]).save()()
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = [module._c for module in modules if isinstance(module, torch.jit.ScriptModule)]
        graphs = [graph for module in self._modules for graph in methods_of(module)]
        self._written, self._read = (_named(graphs, f"prim::{word}Attr") for word in ("Set", "Get"))

    def save(self) -> Callable[[], None]:
        """Remember all of them as they are; returns what puts them back."""
        undo = [restore for module in self._modules for restore in self._attributes(module)]

        def put_back() -> None:
            for restore in undo:
                restore()

        return put_back

    def _attributes(self, module: Any) -> List[Callable[[], None]]:
        held = [torch._C.ParameterDict(module), torch._C.BufferDict(module), torch._C.ModuleDict(module)]
        known = {name for table in held for name, _ in table.items()}
        names = [name for name in sorted((self._read | self._written) - known) if module.hasattr(name)]
        names = [name for name in names if not isinstance(module.getattr(name), torch._C.ScriptObject)]
        return [_restorer(module, name, name in self._written) for name in names]


def _named(graphs: Sequence[Any], kind: str) -> Set[str]:
    return {str(node.s("name")) for graph in graphs for node in graph.findAllNodes(kind, True)}


def put(module: Any, name: str, value: Any) -> None:
    """Set an attribute; a list or a dict may turn out to be a constant of the class, which nothing changes."""
    try:
        module.setattr(name, value)
    except RuntimeError:
        if not isinstance(value, (list, dict)):
            raise


def _restorer(module: Any, name: str, written: bool) -> Callable[[], None]:
    value = module.getattr(name)
    tensors = [(tensor, tensor.detach().clone()) for tensor in _tensors(value)]

    def restore() -> None:
        with torch.no_grad():
            for tensor, copy in tensors:
                if tensor.shape != copy.shape:
                    tensor.set_(copy)
                elif not torch.equal(tensor, copy):
                    tensor.copy_(copy)
        if written or isinstance(value, (list, dict)):
            put(module, name, value)

    return restore


def _tensors(value: Any) -> List[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, (list, tuple)) else []
