"""Layers that are described as a whole, and exported programs, whose layers are known from their graph."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch import nn

from porting_check_torch.describe import Draft, Ref
from porting_check_torch.describe.attention import multi_head_attention_forward
from porting_check_torch.scopes import LIBRARY, Scope, Scopes

_FRAME = re.compile(r'File "([^"]*)", line (\d+)')
_FORWARD = nn.MultiheadAttention.forward


def is_attention(module: nn.Module) -> bool:
    """Whether this is torch's own multi-head attention, with nothing overridden."""
    plain = type(module) is nn.MultiheadAttention and "forward" not in vars(module)
    return plain and nn.MultiheadAttention.forward is _FORWARD


def has_fast_path(module: nn.Module) -> bool:
    """Whether this is a transformer layer that runs as one fused kernel when nobody looks."""
    if not hasattr(torch, "_transformer_encoder_layer_fwd"):  # torch before 1.12
        return False
    mha = getattr(torch.backends, "mha", None)
    enabled = mha is None or mha.get_fastpath_enabled()
    return bool(enabled and not module.training and type(module) is nn.TransformerEncoderLayer)


def watch(module: nn.Module, enter: Callable[..., Any], leave: Callable[..., None]) -> List[Any]:
    """Call ``enter`` before and ``leave`` after a module runs, where torch has hooks with keywords."""
    states: List[Any] = []

    def before(watched: nn.Module, args: Any, kwargs: Any) -> None:
        states.append(enter(watched, args, kwargs))

    def after(watched: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if states:
            leave(
                watched, states.pop(), args, kwargs, output, sys.exc_info()[0] is not None and output is None
            )

    try:
        first = module.register_forward_pre_hook(before, with_kwargs=True)
        return [first, module.register_forward_hook(after, with_kwargs=True, always_call=True)]
    except TypeError:
        return []


def attention(module: Any, refs: Dict[int, Ref]) -> Callable[..., None]:
    """A describer of one multi-head attention layer, with the signature of its forward."""

    def held(tensor: Optional[torch.Tensor]) -> Optional[Ref]:
        return None if tensor is None else refs[id(tensor)]

    def describe(
        d: Draft,
        query: Ref,
        key: Ref,
        value: Ref,
        key_padding_mask: Optional[Ref] = None,
        need_weights: bool = True,
        attn_mask: Optional[Ref] = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> None:
        weights = held(module.in_proj_weight), held(module.in_proj_bias)
        extra = (module.bias_k, module.bias_v, module.add_zero_attn, module.dropout)
        out = held(module.out_proj.weight), held(module.out_proj.bias)
        apart = [held(getattr(module, name)) for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
        multi_head_attention_forward(
            d,
            query,
            key,
            value,
            module.embed_dim,
            module.num_heads,
            *weights,
            *extra,
            *out,
            module.training,
            key_padding_mask,
            need_weights,
            attn_mask,
            not module._qkv_same_embed_dim,
            *apart,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            batch_first=module.batch_first,
        )

    return describe


def run_exported(root: Any, args: Sequence[Any], kwargs: Dict[str, Any], scopes: Scopes) -> Any:
    """Run the graph of an exported program node by node, so that each function is known by its layer."""
    held: Dict[str, List[int]] = {}
    for name, tensor in list(root.named_parameters()) + list(root.named_buffers()):
        held.setdefault(name.rpartition(".")[0], []).append(id(tensor))

    class Interpreter(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            scopes.pinned, scopes.location = _scope(n, held), _location(n)
            return super().run_node(n)

    flat = torch.utils._pytree.tree_flatten((tuple(args), kwargs))[0]
    try:
        return Interpreter(root).run(*flat)
    finally:
        scopes.pinned, scopes.location = None, ""


def _location(node: Any) -> str:
    """File and line of the user's code that a node was traced from, as export kept them: ``net.py:42``."""
    every = _FRAME.findall(str(node.meta.get("stack_trace") or ""))
    frames = [frame for frame in every if "/torch/" not in frame[0].replace(os.sep, "/")] or every
    return f"{os.path.basename(frames[-1][0])}:{frames[-1][1]}" if frames else ""


def _scope(node: Any, held: Dict[str, List[int]]) -> Scope:
    """The scope in which a node was traced, from the module stack that export kept."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return Scope()
    path, kind = stack[-1]
    path = str(path).split("@")[0]
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    leaf = not any(other.startswith(path + ".") for other in held)
    own = frozenset(held.get(path, ()))
    return Scope(path, name.rpartition(".")[2], name.startswith(LIBRARY), own, leaf)
