"""Which graph a model is, and how its inputs and outputs are called: functions, modules, SavedModels, frozen graphs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import InputError, ModelError, RunError
from porting_check_tensorflow.graph_body import Body, Library, output_count
from porting_check_tensorflow.graph_parts import ARGUMENTS, Ref
from porting_check_tensorflow.trees import arguments, flatten
from porting_check_tensorflow.weights import distinct

SERVING = "serving_default"


class FrozenGraph:
    """A GraphDef with its weights inside, as TensorFlow 1 deployed them.

    Example:
        >>> graph = tf.Graph()
        >>> with graph.as_default():
        ...     _ = tf.identity(tf.compat.v1.placeholder(tf.float32, [None, 3], name="x") * 2.0, name="y")
        >>> FrozenGraph(graph.as_graph_def()).outputs
        ('y',)

    Args:
        graph_def: the graph.
        outputs: names of the tensors that are its outputs; all those that nothing else reads when not given.
    """

    def __init__(self, graph_def: Any, outputs: Sequence[str] = ()) -> None:
        self.graph_def = graph_def
        self.library = Library(graph_def.library.function)
        self.inputs = tuple(str(node.name) for node in graph_def.node if node.op in ARGUMENTS)
        self.optional = tuple(
            str(node.name) for node in graph_def.node if node.op == "PlaceholderWithDefault"
        )
        self.outputs = tuple(outputs) or tuple(self._unread())

    def _unread(self) -> Iterator[str]:
        """Tensors that nothing reads, in the order of the graph."""
        read = {name.split(":")[0].lstrip("^") for node in self.graph_def.node for name in node.input}
        for node in self.graph_def.node:
            if str(node.name) not in read and node.op not in ("Const", "NoOp", "Assert", "Placeholder"):
                for index in range(output_count(node, self.library)):
                    yield str(node.name) if index == 0 else f"{node.name}:{index}"


@dataclass(frozen=True)
class Leaf:
    """One tensor input of a graph.

    Attributes:
        name: what the adapter calls it: a position, a keyword, a key of a dict.
        also: other names that it may be given by.
        spec: shape and dtype.
        argument: name of its placeholder in the graph.
        optional: whether the graph has a value of its own for it.
    """

    name: str
    also: Tuple[str, ...]
    spec: Any
    argument: str
    optional: bool = False


@dataclass
class Program:
    """A graph that is ready to run.

    Attributes:
        library: its functions.
        body: its operations.
        leaves: its inputs in order.
        captured: tensors (mostly handles of variables) that the body takes after the inputs.
        variables: by native name.
        paths: names of the body's results.
        plain: runs the graph the ordinary way: values by leaf name to outputs by path.
        held: values of TensorFlow 1 reference variables by name; they live inside the graph only.
    """

    library: Library
    body: Body
    leaves: Tuple[Leaf, ...]
    captured: Tuple[Any, ...]
    variables: Dict[str, Any]
    paths: Tuple[str, ...]
    plain: Callable[[Mapping[str, Any]], Dict[str, Any]]
    held: Dict[str, Any] = field(default_factory=dict)
    _writes: Optional[bool] = None

    @property
    def writes(self) -> bool:
        """Whether a run writes into variables."""
        if self._writes is None:
            self._writes = self.library.writes(self.body)
        return self._writes

    def fed(self, inputs: Mapping[str, Any]) -> Dict[str, Any]:
        """Tensors by leaf name, from arrays by any of their names.

        Raises:
            InputError: a name that no input has, an input that is missing, or another shape or dtype.
        """
        given: Dict[str, Any] = {}
        for name, array in inputs.items():
            leaf = self._leaf(name)
            if leaf is None or leaf.name in given:
                raise InputError(f"the model has no input {name!r}; it has {self._described()}")
            given[leaf.name] = _tensor(leaf, np.asarray(array))
        missing = [leaf.name for leaf in self.leaves if leaf.name not in given and not leaf.optional]
        if missing:
            raise InputError(f"the model's inputs {missing} were not given; it has {self._described()}")
        return given

    def _leaf(self, name: str) -> Optional[Leaf]:
        exact = [leaf for leaf in self.leaves if leaf.name == name]
        named = exact or [leaf for leaf in self.leaves if name in leaf.also]
        needed = [leaf for leaf in self.leaves if not leaf.optional]
        if not named and name.isdigit() and int(name) < len(needed):
            return needed[int(name)]
        return named[0] if named else None

    def _described(self) -> str:
        return (
            ", ".join(f"{leaf.name!r} {leaf.spec.dtype.name}{_shape_text(leaf.spec)}" for leaf in self.leaves)
            or "none"
        )


def _shape_text(spec: Any) -> str:
    shape = spec.shape
    return (
        ""
        if shape.rank is None
        else "(" + ", ".join("any" if n is None else str(n) for n in shape.as_list()) + ")"
    )


def _tensor(leaf: Leaf, array: np.ndarray) -> Any:
    """An owned tensor of the input's dtype; floats are brought to its precision, kinds are never changed."""
    wanted = leaf.spec.dtype
    if wanted.is_floating != (array.dtype.kind in "fV") or (
        wanted.is_integer and array.dtype.kind not in "iu"
    ):
        raise InputError(f"input {leaf.name!r} has dtype {array.dtype}; the model expects {wanted.name}")
    if not leaf.spec.shape.is_compatible_with(array.shape):
        raise InputError(
            f"input {leaf.name!r} has shape {array.shape}; the model expects {_shape_text(leaf.spec)}"
        )
    return tf.constant(array.astype(wanted.as_numpy_dtype))


def program(model: Any, inputs: Optional[Mapping[str, Any]] = None) -> Program:
    """The graph of a model.

    A function that was not traced yet needs the inputs, to be traced for them.

    Raises:
        ModelError: the model has no graph, or several and none is the one to run, or cannot be traced.
    """
    if isinstance(model, tf.Graph):
        model = FrozenGraph(model.as_graph_def())
    elif type(model).__name__ == "GraphDef":
        model = FrozenGraph(model)
    if isinstance(model, FrozenGraph):
        return _frozen_program(model)
    chosen = callable_of(model)
    if is_concrete(chosen):
        return concrete_program(chosen, _variables(model, chosen), None)
    return _traced_program(model, chosen, inputs)


def is_concrete(model: Any) -> bool:
    """Whether this is one traced function."""
    return hasattr(model, "structured_input_signature") and hasattr(model, "graph") and callable(model)


def is_function(model: Any) -> bool:
    """Whether this is a ``tf.function``."""
    return hasattr(model, "get_concrete_function") and callable(model)


def callable_of(model: Any) -> Any:
    """The function that a model is run by: itself, a signature, or its ``__call__``.

    Raises:
        ModelError: none, or several signatures of which none is called ``serving_default``.
    """
    if is_concrete(model) or is_function(model):
        return model
    signatures = getattr(model, "signatures", None)
    names = sorted(signatures) if signatures is not None and hasattr(signatures, "keys") else []
    if SERVING in names or len(names) == 1:
        return signatures[SERVING if SERVING in names else names[0]]
    if names:
        raise ModelError(
            f"the SavedModel has the signatures {names} and none is called {SERVING!r}: "
            f"give one of them, for example model.signatures[{names[0]!r}]"
        )
    if not callable(model):
        functions = sorted(name for name in dir(model) if is_function(getattr(model, name, None)))
        raise ModelError(
            f"a {type(model).__name__} has no signature and no __call__"
            + (f": give one of its functions {functions}" if functions else ", so there is nothing to run")
        )
    method = getattr(model, "__call__")  # noqa: B004 - the bound method, which may be a tf.function
    return method if is_function(method) else tf.function(method)


def _traced_program(model: Any, function: Any, inputs: Optional[Mapping[str, Any]]) -> Program:
    """Trace a function for these inputs."""
    positional: List[Any] = []
    named: Dict[str, Any] = {}
    if inputs is not None and getattr(function, "input_signature", None) is None:
        positional, named = _arguments(function, {name: tf.constant(array) for name, array in inputs.items()})
    try:
        traced = function.get_concrete_function(*positional, **named)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        kind, what = (ModelError, "without inputs") if inputs is None else (RunError, "for these inputs")
        raise kind(f"the function could not be traced {what}: {type(error).__name__}: {first}") from error
    return concrete_program(traced, _variables(model, traced), function)


def _arguments(function: Any, fed: Mapping[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """Positional and keyword arguments; names that are no arguments are the entries of one dict."""
    positional, named = arguments(fed)
    plain = getattr(function, "python_function", None)
    if named and plain is not None and not positional:
        try:
            parameters = inspect.signature(plain).parameters.values()
        except (TypeError, ValueError):
            return positional, named
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not open_ended and not set(named) <= {parameter.name for parameter in parameters}:
            return [named], {}
    return positional, named


def concrete_program(traced: Any, variables: Dict[str, Any], function: Optional[Any]) -> Program:
    """The program of one traced function.

    Args:
        traced: the ConcreteFunction.
        variables: by native name.
        function: what to call for the plain run; the traced function itself when ``None``.
    """
    graph_def = traced.graph.as_graph_def()
    library = Library(graph_def.library.function)
    signature = traced.structured_input_signature
    names = [str(tensor.name).split(":")[0] for tensor in traced.inputs]
    leaves = _leaves(signature, names)
    results = [Ref(str(tensor.op.name), int(tensor.value_index)) for tensor in traced.outputs]
    paths = [path for path, _ in walk(traced.structured_outputs)]
    if len(paths) != len(results):
        paths = [str(index) for index in range(len(results))]
    controls = [str(operation.name) for operation in getattr(traced.graph, "control_outputs", ())]
    body = library.from_graph(graph_def, names, results, controls)

    def plain(fed: Mapping[str, Any]) -> Dict[str, Any]:
        positional, named = _packed(signature, leaves, fed)
        return flatten((function or traced)(*positional, **named))

    captured, held = tuple(traced.captured_inputs), _reference_variables(traced, graph_def)
    return Program(library, body, leaves, captured, variables, tuple(paths), plain, held)


def _reference_variables(traced: Any, graph_def: Any) -> Dict[str, Any]:
    """Values of the variables of a TensorFlow 1 SavedModel that were saved without ``use_resource``."""
    variables = [str(node.name) for node in graph_def.node if node.op in ("VariableV2", "Variable")]
    # A function cannot return a reference, but the Identity that TensorFlow 1 put behind every variable reads it.
    readers = {str(node.input[0]): str(node.name) for node in graph_def.node if node.op == "Identity"}
    names = [name for name in variables if name in readers]
    if not names:
        return {}
    fetched = traced.prune([], [traced.graph.get_tensor_by_name(f"{readers[name]}:0") for name in names])()
    return {name: tf.constant(value.numpy()) for name, value in zip(names, fetched)}


def walk(structure: Any, path: str = "") -> List[Tuple[str, Any]]:
    """Tensors and specs of a structure with their paths, in the order of ``tf.nest`` (dict keys sorted).

    Example:
        >>> [path for path, _ in walk({"q": tf.TensorSpec(()), "b": (tf.TensorSpec(()), tf.TensorSpec(()))})]
        ['b/0', 'b/1', 'q']
    """
    if isinstance(structure, (tf.Tensor, tf.TensorSpec)):
        return [(path or "0", structure)]
    if isinstance(structure, Mapping):
        items = [(str(key), structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(structure)]
    else:
        return []
    return [leaf for key, item in items for leaf in walk(item, f"{path}/{key}" if path else key)]


def _leaves(signature: Any, names: Sequence[str]) -> Tuple[Leaf, ...]:
    """The tensor inputs of a traced function: positions, keywords, or the keys of the only argument when it is a dict."""
    positional, named = signature
    found = walk(positional) + walk(named)
    only = [item for item in positional if walk(item)]
    unwrapped = len(only) == 1 and isinstance(only[0], Mapping) and not walk(named)
    leaves = []
    for number, (path, spec) in enumerate(found):
        name = path.split("/", 1)[1] if unwrapped else path
        also = tuple(str(other) for other in (path, spec.name, names[number]) if other and other != name)
        leaves.append(Leaf(name, also, spec, names[number]))
    return tuple(leaves)


def _packed(signature: Any, leaves: Sequence[Leaf], fed: Mapping[str, Any]) -> Tuple[Any, Any]:
    """The arguments of a call: the signature with tensors in the place of specs."""
    waiting = iter([fed[leaf.name] for leaf in leaves])

    def filled(structure: Any) -> Any:
        if isinstance(structure, (tf.Tensor, tf.TensorSpec)):
            return next(waiting)
        if isinstance(structure, Mapping):
            done = {key: filled(structure[key]) for key in sorted(structure)}
            return {key: done[key] for key in structure}
        if isinstance(structure, tuple) and hasattr(structure, "_fields"):
            return type(structure)(*[filled(item) for item in structure])
        if isinstance(structure, (list, tuple)):
            return type(structure)(filled(item) for item in structure)
        return structure

    positional, named = signature
    return filled(positional), filled(named)


def _frozen_program(model: FrozenGraph) -> Program:
    """The program of a frozen graph; inputs are its placeholders, outputs are called by their tensors' names."""
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(model.graph_def, name=""), [])
    graph = wrapped.graph
    optional = set(model.optional)
    names = list(model.inputs) + list(model.optional)
    leaves = []
    for name in names:
        tensor = graph.get_tensor_by_name(f"{name}:0")
        leaves.append(
            Leaf(name, (f"{name}:0",), tf.TensorSpec(tensor.shape, tensor.dtype), name, name in optional)
        )
    kept = [name for name in model.outputs if _is_numeric(graph.get_tensor_by_name(_tensor_name(name)))]
    results = [_ref(name) for name in kept]
    body = model.library.from_graph(model.graph_def, names, results)

    def plain(fed: Mapping[str, Any]) -> Dict[str, Any]:
        feeds = [graph.get_tensor_by_name(f"{name}:0") for name in fed]
        pruned = wrapped.prune(feeds, [graph.get_tensor_by_name(_tensor_name(name)) for name in kept])
        return dict(zip(kept, pruned(*fed.values())))

    return Program(model.library, body, tuple(leaves), (), {}, tuple(kept), plain)


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _ref(name: str) -> Ref:
    operation, _, index = name.partition(":")
    return Ref(operation, int(index or 0))


def _is_numeric(tensor: Any) -> bool:
    return tensor.dtype not in (tf.string, tf.resource, tf.variant)


def _variables(model: Any, traced: Any) -> Dict[str, Any]:
    """Variables by name; two of one name are told apart by where the model keeps them."""
    found = list(getattr(getattr(traced, "graph", None), "variables", ()) or ())
    found += [v for v in (getattr(model, "variables", None) or ()) if not any(v is other for other in found)]
    names = [str(variable.name).split(":")[0] for variable in found]
    held = _held_paths(model) if len(set(names)) < len(names) else {}
    named: Dict[str, Any] = {}
    for name, variable in zip(names, found):
        twice = names.count(name) > 1
        named[distinct(held.get(id(variable), name) if twice else name, named)] = variable
    return named


def variables_of(model: Any) -> Dict[str, Any]:
    """Variables of a model that need not be traced yet, by name."""
    if isinstance(model, (FrozenGraph, tf.Graph)) or type(model).__name__ == "GraphDef":
        return {}
    if is_concrete(model):
        return _variables(model, model)
    try:
        chosen = callable_of(model)
    except ModelError:
        chosen = None
    return _variables(model, chosen)


def _held_paths(model: Any) -> Dict[int, str]:
    """Where a module or a loaded object keeps each variable: ``layers/0/w``, by ``id``."""
    found: Dict[int, str] = {}
    waiting: List[Tuple[str, Any]] = [("", model)]
    seen = set()
    while waiting:
        path, holder = waiting.pop(0)
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        if isinstance(holder, tf.Variable):
            found[id(holder)] = path
        children = getattr(holder, "_trackable_children", None)
        if children is not None:
            waiting += [
                (f"{path}/{name}" if path else str(name), child) for name, child in sorted(children().items())
            ]
    return found
