"""The contract of ``Adapter.run``: the standard's cases, types, ownership, refusals, exactness, float64."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import PortingError, RunError, UnsupportedNode
from porting_check.neutral.node import OPSET, Node
from porting_check.numerics.program import to_double
from porting_check.numerics.truth import evaluate_node
from porting_check.recorder.registry import load_adapter
from porting_check.testing import cases
from porting_check.testing.agreement_nodes import FUNCTIONS
from porting_check.testing.distance import distance
from porting_check.testing.operators import Operators, operators_of
from porting_check.testing.strategies import linear_nodes, small_integers

X = np.zeros((2, 3), np.float32)

REFUSALS: dict[str, tuple[type[PortingError], str, Node, list[np.ndarray]]] = {
    "an unknown operator": (UnsupportedNode, "'Blur'.*{framework}", Node("Blur", ("x",)), [X]),
    "another domain": (
        UnsupportedNode,
        r"'Relu' of domain 'com\.example'",
        Node("Relu", ("x",), domain="com.example"),
        [X],
    ),
    "strings": (UnsupportedNode, "strings", Node("Identity", ("x",)), [np.array(["text"])]),
    "int4": (UnsupportedNode, "Identity", Node("Identity", ("x",)), [np.zeros(2, ml_dtypes.int4)]),
    "shapes that do not fit": (
        RunError,
        r"{framework} could not run MatMul\(\)",
        Node("MatMul", ("a", "b")),
        [X, X],
    ),
    "an input too few": (PortingError, "MatMul.*input", Node("MatMul", ("a",)), [X]),
    "an output too many": (
        UnsupportedNode,
        "Relu.*output|output.*Relu",
        Node("Relu", ("x",), ("y", "z")),
        [X],
    ),
    "training": (
        UnsupportedNode,
        "training_mode",
        Node("Dropout", ("x", "ratio", "mode")),
        [X, np.array(0.5, np.float32), np.array(True)],
    ),
    "a kernel of another rank": (
        PortingError,
        "kernel|shape",
        Node("Conv", ("x", "w")),
        [X[None], np.zeros((1, 2, 4), np.float32)],
    ),
    "an unknown mode": (
        PortingError,
        "mode.*mirror|Pad.*mode",
        Node("Pad", ("x", "p"), attributes={"mode": "mirror"}),
        [X, np.array([1, 1, 1, 1])],
    ),
    "a type without a kernel": (UnsupportedNode, "Softmax", Node("Softmax", ("a",)), [np.array([1])]),
}
"""What no adapter can run: the error, words of its message, the node and its inputs."""

NARROW = ("int8", "int16", "uint8", "uint16", "uint32", "uint64")
"""Integer types that frameworks often only store."""


WITHOUT_TRUTH = {
    "AffineGrid": "the standard's reference implementation goes through float32",
    "Cast": "values are rounded by definition, in float64 too",
    "CastLike": "values are rounded by definition, in float64 too",
    "CausalConvWithState": "the standard's reference implementation goes through float32",
    "DeformConv": "the standard's reference implementation goes through float32",
    "DynamicQuantizeLinear": "the standard's reference implementation goes through float32",
    "LinearAttention": "the standard's reference implementation goes through float32",
    "QuantizeLinear": "values are rounded by definition, in float64 too",
}
"""Operators whose float64 results have nothing here to be compared with; the contract of agreement compares them."""


class RunContract:
    """What ``run`` must do; subclass it, name the framework, and let pytest collect the subclass.

    Class attributes that a subclass may set:
        at_least: how many operators must pass every case of the standard.
        computed: refusals (by name in ``REFUSALS``) that the framework computes instead, and why.
        narrow_gaps: operators by integer type that the framework cannot compute, strictly.
        refuses: why the framework lacks kernels for types that the cases of an operator do not have; it may then refuse
            single nodes of graphs and of drawn forms, but never most of them.
        float64_cases: about how many cases of an operator to evaluate in float64 (2 or more); 0 for all.
        graphs_every: which of the cases of several nodes to run: every n-th.
        float64_limit: largest difference to the truth of a float64 evaluation, relative to the largest value.

    Example:
        >>> class TestRun(RunContract):
        ...     framework = "torch"
        >>> TestRun().operators().supported >= {"Conv", "Relu"}
        True
    """

    framework: ClassVar[str] = ""
    at_least: ClassVar[int] = 130
    computed: ClassVar[Mapping[str, str]] = {}
    narrow_gaps: ClassVar[Mapping[str, frozenset[str]]] = {}
    refuses: ClassVar[str] = ""
    float64_cases: ClassVar[int] = 0
    graphs_every: ClassVar[int] = 1
    float64_limit: ClassVar[float] = 1e-12
    max_examples: ClassVar[int] = 25

    def adapter(self) -> Adapter:
        """The adapter under test."""
        return load_adapter(self.framework)

    def operators(self) -> Operators:
        """What the adapter declares."""
        return operators_of(self.adapter())

    def run(self, node: Node, inputs: Sequence[np.ndarray | None], *, float64: bool = False) -> Any:
        """One node by the adapter."""
        return self.adapter().run(node, inputs, float64=float64)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each operator, type and refusal; the operators in the gaps must fail."""
        if "op_type" in metafunc.fixturenames:
            metafunc.parametrize("op_type", by_operator(self.operators().gaps))
        if "wide_op_type" in metafunc.fixturenames:
            gaps = self.operators().gaps.keys() | {"BitCast"}  # bits of a float32 are none of a float64's
            metafunc.parametrize("wide_op_type", [name for name in cases.cases() if name not in gaps])
        if "refusal" in metafunc.fixturenames:
            metafunc.parametrize("refusal", list(REFUSALS))
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", NARROW)

    def test_operator_passes_all_cases_of_the_standard(self, op_type: str) -> None:
        """Values, dtypes, shapes; inputs are not written to; results are of their own memory."""
        chosen = cases.cases()[op_type]
        assert chosen
        assert cases.failures(self.run, chosen) == {}

    def test_every_operator_of_inference_is_run_or_named(self) -> None:
        """What the standard has is run, a gap with its reason, or no operator of inference; nothing is unaccounted for."""
        known = self.operators()
        standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
        explained = cases.NOT_INFERENCE.keys() | cases.NOT_DESCRIBED.keys()
        accounted = known.supported | known.gaps.keys()
        assert standard - accounted == explained & standard
        assert not explained & accounted, "an operator is run that is said to be none of inference"
        assert cases.WITHOUT_CASES.keys() <= accounted
        assert accounted <= standard | cases.WITHOUT_CASES.keys()
        assert all(len(reason) > 10 for reason in known.gaps.values())
        assert len(known.supported - known.gaps.keys()) >= self.at_least

    def test_functions_of_several_nodes_pass_their_cases(self) -> None:
        """The standard's cases of composed functions, node by node, where each operator is run without a gap."""
        known = self.operators()
        chosen = cases.graphs(known.supported - known.gaps.keys(), self.graphs_every)
        failed = cases.failures_of_graphs(self.run, chosen)
        refused = {name for name, why in failed.items() if self.refuses and why.startswith("UnsupportedNode")}
        assert len(chosen) - len(refused) > 50 // self.graphs_every
        assert {name: why for name, why in failed.items() if name not in refused} == {}

    def test_what_cannot_be_run_is_refused_with_a_reason(self, refusal: str) -> None:
        """By an error that users may catch, which says what was found."""
        error, words, node, inputs = REFUSALS[refusal]
        if refusal in self.computed:
            assert len(self.run(node, inputs)) == len(node.outputs)
            return
        with pytest.raises(error, match=words.format(framework=re.escape(self.framework))):
            self.run(node, inputs)

    def test_types_with_few_kernels_are_computed_or_refused(self, dtype: str) -> None:
        """Results of narrow integers wrap as they must; what the framework cannot is refused and declared."""
        refused = set()
        for node, inputs, wanted in narrow_integers(np.dtype(dtype)):
            try:
                found = self.run(node, inputs)[0]
            except UnsupportedNode:
                refused.add(node.op_type)
                continue
            assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist()), node
        assert refused == self.narrow_gaps.get(dtype, frozenset())

    def test_floats_that_only_move_keep_their_type(self) -> None:
        """A transposed bfloat16 tensor is one of bfloat16, with the same bits."""
        x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
        found = self.run(Node("Transpose", ("x",), attributes={"perm": (1, 0)}), [x])[0]
        assert (found.dtype, found.shape) == (x.dtype, (3, 2))
        assert found.T.tobytes() == x.tobytes()

    def test_numbers_beyond_the_type_of_the_arithmetic_are_never_silently_wrong(self) -> None:
        """uint64 values of 2**63 and above are computed rightly or refused."""
        large = np.array([2**63], np.uint64)
        try:
            (found,) = self.run(Node("Pow", ("a", "b")), [large, np.array([1], np.uint64)])
        except UnsupportedNode as error:
            assert re.search("uint64|Pow", str(error))
        else:
            assert found.tolist() == large.tolist()

    def test_sums_of_small_integers_are_exact(self) -> None:
        """On integers every order of summation gives the same bits, so any difference is a mistake."""
        ran, refused = [], []

        @settings(
            deadline=None, max_examples=self.max_examples, suppress_health_check=[HealthCheck.filter_too_much]
        )
        @given(linear_nodes(), st.integers(0, 2**32 - 1))
        def exact(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
            node, shapes = found
            inputs = small_integers(seed, *shapes)
            try:
                (result,) = self.run(node, inputs)
            except (UnsupportedNode, RunError) as error:
                refused.append(str(error))
                return
            ran.append(node)
            truth = evaluate_node(node, [to_double(array) for array in inputs])[0]
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result, truth, err_msg=str(node))

        exact()
        assert not refused or self.refuses, refused[0]
        assert len(ran) > len(refused)

    def test_float64_is_float64_all_the_way(self, wide_op_type: str) -> None:
        """Floating results of a float64 evaluation are float64, and the truth's to the last digits but three.

        That no operator went through float32 shows in the values. An operator that cannot says so, and is declared.
        """
        found = [case for case in cases.cases()[wide_op_type] if any(map(floating, case.inputs))]
        step = max(1, (len(found) - 1) // (self.float64_cases - 1)) if self.float64_cases > 1 else 1
        narrow = {}
        for case in [*found[::step], *probe(wide_op_type)]:
            why = self._narrowed(case)
            if why:
                narrow[case.name] = why
        assert bool(narrow) == (wide_op_type in self.operators().float32_only), narrow

    def _narrowed(self, case: cases.Case) -> str:
        """Why the float64 evaluation of a case is not one, or ""."""
        node = cases.explicit(case.node)
        try:
            results = self.run(node, case.inputs, float64=True)
        except UnsupportedNode as error:
            return str(error)
        if not all(not floating(result) or result.dtype == np.float64 for result in results):
            return f"dtypes {[result.dtype.name for result in results]}"
        return self._untrue(node, case, results)

    def _untrue(self, node: Node, case: cases.Case, results: Sequence[np.ndarray]) -> str:
        """How far a float64 evaluation is from the truth, or "" where it is not."""
        if node.op_type in WITHOUT_TRUTH:
            return ""
        truths = evaluate_node(node, [None if a is None else to_double(a) for a in case.inputs])
        pairs = zip(results, truths, strict=False)
        apart = max(distance(np.asarray(truth, dtype=result.dtype), result) for result, truth in pairs)
        return "" if apart <= self.float64_limit else f"{apart:.2g} from the truth"

    def test_bits_of_a_float_are_those_of_its_own_type(self) -> None:
        """A float64 evaluation cannot give the bits of a float32, and says so."""
        if "BitCast" in self.operators().gaps:
            pytest.skip("BitCast is a gap")
        with pytest.raises(UnsupportedNode, match="bits of a float32"):
            self.run(Node("BitCast", ("x",), attributes={"to": 6}), [np.zeros(2, np.float32)], float64=True)

    def state(self) -> Any:
        """Whatever of the framework's process-wide state ``run`` must leave alone; comparable with ``==``."""
        return self.adapter().environment()

    def test_nothing_of_the_process_is_changed(self) -> None:
        """Random generators and modes are as before, also after an error."""
        before = self.state()
        rng = np.random.default_rng(0)
        w, r = rng.normal(size=(1, 8, 3)), rng.normal(size=(1, 8, 2))
        lstm = Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 2})
        nodes: list[tuple[Node, list[np.ndarray]]] = [
            (lstm, [rng.normal(size=(4, 2, 3)), w, r]),
            (Node("Blur", ("x",)), [w]),
            (Node("Conv", ("x", "w")), [np.ones((1, 2, 5), np.float32), np.ones((3, 2, 2), np.float32)]),
            (Node("MatMul", ("x", "w")), [X, X]),
        ]
        for float64 in (False, True):
            for node, inputs in nodes:
                try:
                    self.run(node, inputs, float64=float64)
                except PortingError:
                    assert node.op_type != "Conv" or float64
                assert self.state() == before


def by_operator(gaps: Mapping[str, str]) -> list[Any]:
    """Parameters for a test per operator with cases: those in ``gaps`` must fail, so that a closed gap is noticed."""
    return [
        pytest.param(op_type, marks=pytest.mark.xfail(reason=gaps[op_type], strict=True))
        if op_type in gaps
        else op_type
        for op_type in cases.cases()
    ]


def probe(op_type: str) -> list[cases.Case]:
    """A function of one input on a grid that no float32 holds: the standard's cases have few values, and round ones."""
    if op_type not in FUNCTIONS:
        return []
    x = (
        np.linspace(0.01, 0.99, 99)
        if op_type in ("Acos", "Asin", "Atanh", "Log", "Sqrt")
        else np.linspace(-4, 4, 81)
    )
    return [cases.Case("a fine grid", OPSET, Node(op_type, ("x",)), (x,), {})]


def narrow_integers(dtype: np.dtype[Any]) -> list[tuple[Node, list[np.ndarray], np.ndarray]]:
    """Nodes on integers of a type, their inputs and what they give."""
    a, b = np.array([7, 200 % 127, 3], dtype), np.array([2, 3, 5], dtype)
    square = np.array([[1, 2], [3, 4]], dtype)
    pairs = [("Add", a + b), ("Mul", a * b), ("Max", np.maximum(a, b)), ("Mod", a % b)]
    found = [(Node(op_type, ("a", "b")), [a, b], wanted) for op_type, wanted in pairs]
    return [
        *found,
        (Node("Abs", ("a",)), [a], a),
        (Node("Sign", ("a",)), [a], np.ones(3, dtype)),
        (Node("MatMul", ("a", "b")), [square, square], square @ square),
        (Node("Tile", ("a", "n")), [a, np.array([2])], np.tile(a, 2)),
        (Node("CumSum", ("a", "axis")), [a, np.array(0)], np.cumsum(a, dtype=dtype)),
        (Node("ArgMax", ("a",), attributes={"keepdims": 0}), [a], np.asarray(a.argmax())),
    ]


def floating(array: np.ndarray | None) -> bool:
    """Whether an array is of a floating type that arithmetic is done in."""
    return array is not None and (array.dtype.kind == "f" or array.dtype.name == "bfloat16")
