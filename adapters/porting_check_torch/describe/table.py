"""The table of describers, and which entry a torch function has.

torch offers most operators several times (``torch.relu``, ``F.relu``, ``Tensor.relu``, ``Tensor.relu_``,

`aten::relu``); they share one entry under the bare name. Where the signatures differ, an entry is qualified:
``F.batch_norm``, ``aten.embedding``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from porting_check_torch.describe.draft import Draft, Undescribed

Describer = Callable[..., None]
TABLE: Dict[str, Describer] = {}
MAIN: Dict[str, None] = {}
"""What a library layer with parameters is there for: conv2d in Conv2d, but not the pad before it."""

LABELS = ("torch", "Tensor", "F", "aten", "special", "linalg", "fft")
"""Where torch's own functions live; functions of other origin (custom operators) are never described."""

SPOKEN = {"F": "torch.nn.functional", "Tensor": "torch.Tensor", "torch": "torch", "aten": "torch.ops.aten"}

BOOKKEEPING = frozenset(
    "size dim stride shape dtype device layout ndim numel nelement is_contiguous is_floating_point "
    "is_complex item tolist __len__ __bool__ __float__ __int__ __index__ __complex__ __repr__ __str__ "
    "__format__ __hash__ __contains__ __dir__ is_cuda is_cpu is_leaf is_nested is_sparse is_quantized "
    "is_meta is_mkldnn requires_grad requires_grad_ grad grad_fn retain_grad register_hook names "
    "storage_offset storage untyped_storage data_ptr element_size get_device is_same_size is_tensor "
    "is_storage is_nonzero allclose equal _assert _assert_async result_type can_cast promote_types "
    "is_inference _version _is_view _base is_shared has_names is_pinned is_conj is_neg is_signed "
    "__reduce_ex__ __deepcopy__ __set__ _set_grad_enabled set_grad_enabled output_nr nbytes itemsize "
    "is_distributed sym_size sym_numel sym_stride is_xla is_mps is_xpu is_vulkan is_ipu is_mtia is_maia "
    "is_sparse_csr is_coalesced dense_dim sparse_dim _nnz _backward_hooks is_set_to __array__ "
    "broadcast_shapes _is_any_true _is_all_true dim_order volatile name _assert_tensor_metadata "
    "_assert_scalar sym_constrain_range_for_size sym_constrain_range".split()
)
"""Questions about a tensor, or values that leave torch: nothing is computed that a record could hold."""

CREATION = frozenset(
    "zeros ones full empty arange range linspace logspace eye tensor as_tensor asarray scalar_tensor "
    "from_numpy zeros_like ones_like full_like empty_like empty_strided empty_permuted new_tensor new_zeros "
    "new_ones new_full new_empty new_empty_strided tril_indices triu_indices hann_window hamming_window "
    "bartlett_window blackman_window kaiser_window frombuffer from_dlpack".split()
)
"""What these make depends on no value: it enters the trace as a constant where it is used."""

UNCHANGED = frozenset(
    "contiguous clone detach detach_ data cpu cuda alias positive __pos__ pin_memory resolve_conj "
    "resolve_neg lift_fresh lift_fresh_copy as_subclass to float double half bfloat16 int long short char "
    "byte bool type_as _to_copy to_dense __copy__ type".split()
)
"""Where dtype and shape stay, the same value in another tensor: it keeps its key, no record is made."""


@dataclass(frozen=True)
class Function:
    """A torch function as the recorder sees it.

    ``label`` and ``name``: where it lives and what it is called there. ``writes``: it may change an argument.
    """

    label: str
    name: str
    describer: Optional[Describer] = None
    writes: bool = False
    kind: str = ""

    @property
    def spoken(self) -> str:
        """As a person writes it: ``torch.nn.functional.relu``."""
        return f"{SPOKEN.get(self.label, 'torch.' + self.label if self.label else '')}.{self.name}".lstrip(
            "."
        )

    def describe(self, draft: Draft, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the describer fill the draft.

        Raises:
            Undescribed: no describer, or not for these arguments.
        """
        if self.describer is None:
            raise Undescribed("is not described")
        self.describer(draft, *args, **_renamed(self.describer, kwargs))


def describes(*names: str, main: bool = False) -> Callable[[Describer], Describer]:
    """Enter a describer into the table under these names, bare or qualified.

    Example:
        >>> @describes("relu_example")
        ... def relu(d, input): d.give(d.node("Relu", d.operand(input)))
        >>> TABLE.pop("relu_example") is relu
        True
    """

    def enter(describer: Describer) -> Describer:
        for name in names:
            TABLE[name] = describer
            if main:
                MAIN[name] = None
        return describer

    return enter


def function_of(func: Any) -> Function:
    """The entry of a function that torch is about to call; remembered per function."""
    try:
        known = _SEEN.get(func)
    except TypeError:
        return _look_up(func)
    if known is None:
        known = _SEEN[func] = _look_up(func)
    return known


_SEEN: Dict[Any, Function] = {}
_OTHER_NAMES = {
    "axis": "dim",
    "keepdims": "keepdim",
    "self": "input",
    "x": "input",
    "x1": "input",
    "x2": "other",
}
_NOT_ARGUMENTS: FrozenSet[str] = frozenset(("inplace", "_stacklevel", "out"))


def _renamed(describer: Describer, kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    """Keywords under the describer's names: numpy's ``axis`` is ``dim``, aten's ``self`` is ``input``."""
    code = describer.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return {
        key if key in names else _OTHER_NAMES.get(key, key): value
        for key, value in kwargs.items()
        if key in names or key not in _NOT_ARGUMENTS
    }


def _look_up(func: Any) -> Function:
    label, name = _identify(func)
    if name.endswith((".__set__", ".__delete__")):
        return Function(label, name, kind="" if name.startswith("data.") else "bookkeeping")
    bare = name[: -len(".__get__")] if name.endswith(".__get__") else name
    plain = bare.rstrip("_") if bare.endswith("_") and not bare.endswith("__") else bare
    writes = plain != bare or bare == "__setitem__" or (bare.startswith("__i") and bare not in _NOT_WRITING)
    if label not in LABELS:
        return Function(label, name, writes=True)
    if bare in BOOKKEEPING or (name.endswith(".__get__") and bare.startswith(("is_", "_"))):
        return Function(label, name, kind="bookkeeping")
    if bare in CREATION:
        return Function(label, name, kind="creation")
    kind = "unchanged" if bare in UNCHANGED else "main" if plain in MAIN or f"{label}.{plain}" in MAIN else ""
    for key in (f"{label}.{bare}", bare, f"{label}.{plain}", plain):
        if key in TABLE:
            return Function(label, bare, TABLE[key], writes, kind)
    return Function(label, bare, None, True, kind)


_NOT_WRITING = frozenset(("__invert__", "__index__", "__int__"))


def _identify(func: Any) -> Tuple[str, str]:
    """Where a function lives, and its name there."""
    name = str(getattr(func, "__name__", type(func).__name__))
    schema = getattr(func, "_schema", None)
    qualified = str(getattr(schema, "name", getattr(func, "_qualified_op_name", "")))
    if "::" in qualified:
        namespace, _, short = qualified.partition("::")
        return namespace, short
    owner = getattr(func, "__self__", None)
    if name in ("__get__", "__set__", "__delete__") and owner is not None:
        attribute = getattr(owner, "__name__", None) or getattr(getattr(owner, "fget", None), "__name__", "?")
        return "Tensor", f"{attribute}.{name}"
    if hasattr(func, "__objclass__"):
        return "Tensor", name
    label = _label(func, owner)
    return label, "pad" if (label, name) == ("F", "_pad") else _short(name)  # so called before 1.12


def _label(func: Any, owner: Any) -> str:
    """The label of a builtin or Python function, by its owner or module."""
    if (
        type(owner).__name__ in ("_VariableFunctionsClass", "type")
        or type(owner).__name__ == "_VariableFunctions"
    ):
        return "torch"
    if owner is None and str(getattr(func, "__qualname__", "")).startswith("_VariableFunctions"):
        return "torch"  # before 1.11 these have no owner
    module = str(getattr(owner, "__name__", None) or getattr(func, "__module__", None) or "")
    if module.startswith("torch._ops."):  # operators before 1.12, which hold no schema
        return module[len("torch._ops.") :]
    known = {
        "torch": "torch",
        "torch.functional": "torch",
        "torch._C._VariableFunctions": "torch",
        "torch._tensor": "Tensor",
        "torch._C._TensorBase": "Tensor",
        "torch.nn.functional": "F",
        "torch._C._nn": "F",
        "torch._C._special": "special",
        "torch._C._linalg": "linalg",
        "torch._C._fft": "fft",
    }
    return known.get(module, module)


def _short(name: str) -> str:
    """``expit`` for ``special_expit``."""
    for prefix in ("special_", "linalg_", "fft_"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name
