"""The contract between adapters: the same nodes on the same inputs, by every framework.

Integers agree bit for bit, floats to round-off (each framework is within its limit of the float64 truth), and float64
evaluations to 1e-12 of the largest value. What a framework refuses is not compared, but counted: it must be a gap that the
adapter declares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import PortingError, RunError, UnsupportedNode
from porting_check.neutral.node import EXTENSION, Node
from porting_check.numerics.own import ratio
from porting_check.numerics.program import to_double
from porting_check.numerics.roundoff import limits
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.truth import evaluate_node
from porting_check.recorder.registry import load_adapter
from porting_check.testing import cases
from porting_check.testing.agreement_nodes import (
    CONVOLUTIONS,
    EXACT,
    FUNCTIONS,
    MATRICES,
    NO_PLACE,
    NORMALIZATIONS,
)
from porting_check.testing.distance import distance
from porting_check.testing.operators import operators_of
from porting_check.testing.run_contract import WITHOUT_TRUTH, floating
from porting_check.testing.strategies import (
    convolutions,
    noise,
    recurrent_layers,
    resizes,
    small_integers,
    transposed_convolutions,
    windows,
)

Arrays = Sequence[np.ndarray | None]
Results = dict[str, tuple[np.ndarray, ...]]


class Panel:
    """The frameworks side by side: runs a node by each, compares, and counts what was refused.

    Args:
        frameworks: names of adapters; the first that runs a node is what the others are compared with.
        lenient: frameworks that may refuse single forms of operators that they run, and why.

    Example:
        >>> panel = Panel(("torch", "tensorflow"), {})                       # doctest: +SKIP
        >>> panel.exactly(Node("Relu", ("x",)), [np.ones(3, np.float32)])  # doctest: +SKIP
    """

    def __init__(self, frameworks: Sequence[str], lenient: Mapping[str, str]) -> None:
        self.lenient = lenient
        self.adapters = {name: load_adapter(name) for name in frameworks}
        self.operators = {name: operators_of(adapter) for name, adapter in self.adapters.items()}
        self.ran: Counter[tuple[str, str, bool]] = Counter()
        self.refused: Counter[tuple[str, str, bool]] = Counter()
        self.reasons: dict[tuple[str, str, bool], str] = {}
        self.compared = 0

    def run(self, node: Node, inputs: Arrays, float64: bool = False) -> Results:
        """Results by framework; those that declare a gap or refuse the node are left out."""
        node, found = (cases.explicit(node) if float64 else node), {}
        for name, adapter in self.adapters.items():
            key = (name, node.op_type, float64)
            if self._declared(*key):
                continue
            try:
                found[name] = adapter.run(node, inputs, float64=float64)
                self.ran[key] += 1
            except (UnsupportedNode, RunError) as error:
                self.refused[key] += 1
                self.reasons.setdefault(key, str(error))
        self.compared += max(0, len(found) - 1)
        return found

    def pairs(
        self, node: Node, inputs: Arrays, float64: bool = False
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Each output of the first framework beside that of every other one."""
        found = self.run(node, inputs, float64)
        first = next(iter(found), "")
        for name in list(found)[1:]:
            for a, b in zip(found[first], found[name], strict=True):
                yield f"{node} by {first} and by {name}", a, b

    def exactly(self, node: Node, inputs: Arrays) -> None:
        """Equal results; a zero may have either sign, because a sum may start from either."""
        for which, a, b in self.pairs(node, inputs):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), which
            np.testing.assert_array_equal(a.astype(float), b.astype(float), err_msg=which)

    def within(self, node: Node, inputs: Arrays, limit: float, float64: bool = False) -> None:
        """Apart by at most ``limit`` times the largest value."""
        for which, a, b in self.pairs(node, inputs, float64):
            assert not float64 or a.dtype.kind != "f" or a.dtype == np.float64, which
            apart = distance(a, b)
            assert apart <= limit, f"{which}: {apart:.2g} apart"

    def in_float64(self, node: Node, inputs: Arrays) -> None:
        """The whole evaluation in float64 gives the same function."""
        self.within(node, inputs, 1e-12, float64=True)

    def to_round_off(self, node: Node, inputs: Arrays) -> None:
        """Every framework's float32 result is within the limit of the float64 truth, whatever the order of its sums."""
        wide = [None if x is None else to_double(x) for x in inputs]
        truths = evaluate_node(cases.explicit(node), wide)
        bounds = limits(node, wide, [None] * len(wide), truths, UNIT["float32"])
        for name, results in self.run(node, inputs).items():
            for result, truth, bound in zip(results, truths, bounds, strict=False):
                assert ratio(result, truth, bound) <= 1, (
                    f"{node} by {name} is not within round-off of the truth"
                )

    def check(self) -> None:
        """Something was compared, and what a framework refused is a gap that its adapter declares."""
        assert self.compared > 0, f"nothing was compared: {self.reasons}"
        silent = [
            f"{key}: {reason}"
            for key, reason in self.reasons.items()
            if key[0] not in self.lenient or self.refused[key] > 4 * max(1, self.ran[key])
        ]
        assert not silent, silent

    def _declared(self, framework: str, op_type: str, float64: bool) -> bool:
        known = self.operators[framework]
        return op_type in known.gaps or (float64 and op_type in known.float32_only)


class AgreementContract:
    """``run`` agrees across adapters; subclass it and name the frameworks.

    Class attributes that a subclass may set:
        lenient: frameworks that may refuse single forms of operators that they run (never most of them), and why.
        max_examples: drawn configurations per test.
        at_least: comparisons of cases of the standard that must have happened where there is no truth.

    Example:
        >>> class TestAgreement(AgreementContract):
        ...     frameworks = ("torch", "mindspore")
    """

    frameworks: ClassVar[tuple[str, ...]] = ()
    lenient: ClassVar[Mapping[str, str]] = {}
    max_examples: ClassVar[int] = 15
    at_least: ClassVar[int] = 50

    @pytest.fixture
    def panel(self) -> Iterator[Panel]:
        """All frameworks, and a look at what was refused when the test is over."""
        panel = Panel(self.frameworks, self.lenient)
        yield panel
        panel.check()

    def drawn(self, *strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
        """Run a function on drawn arguments, now."""
        options = settings(
            deadline=None,
            max_examples=self.max_examples,
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        return lambda function: options(given(*strategies)(function))()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each named form."""
        tables: Mapping[str, Sequence[str]] = {
            "convolution": list(CONVOLUTIONS),
            "form": list(EXACT),
            "product": list(MATRICES),
            "normalization": list(NORMALIZATIONS),
            "no_place": list(NO_PLACE),
            "function": FUNCTIONS,
        }
        for argument in tables.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(argument, tables[argument])

    def test_convolutions_agree(self, panel: Panel) -> None:
        """Any rank, kernel, stride, dilation, padding and number of groups."""

        @self.drawn(convolutions(), st.integers(0, 2**32 - 1))
        def agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
            node, shapes = found
            panel.exactly(node, small_integers(seed, *shapes))
            panel.to_round_off(node, noise(seed, *shapes))
            panel.in_float64(node, noise(seed, *shapes))

    def test_transposed_convolutions_agree(self, panel: Panel) -> None:
        """Any crop and any growth of the output."""

        @self.drawn(transposed_convolutions(), st.integers(0, 2**32 - 1))
        def agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
            node, shapes = found
            panel.exactly(node, small_integers(seed, *shapes))
            panel.to_round_off(node, noise(seed, *shapes))
            panel.in_float64(node, noise(seed, *shapes))

    def test_pools_agree(self, panel: Panel) -> None:
        """With windows that begin or end in the padding, rounded up or down, with places."""
        kinds = st.sampled_from(("MaxPool", "AveragePool", "LpPool"))

        @self.drawn(windows(), kinds, st.booleans(), st.booleans(), st.integers(0, 99))
        def agree(found: dict[str, Any], op_type: str, ceil: bool, include: bool, seed: int) -> None:
            shape = (2, 3, *found.pop("sizes"))
            node = _pool(op_type, found, ceil, include)
            (x,) = noise(seed, shape)
            panel.within(node, [x], 0.0 if op_type == "MaxPool" else 1e-6)
            panel.in_float64(node, [x])
            # sums of powers are exact as well, their roots are rounded
            panel.within(node, small_integers(seed, shape), 1e-6 if op_type == "LpPool" else 0.0)

    def test_max_pools_of_integers_agree(self, panel: Panel) -> None:
        """Types that frameworks have few kernels for."""

        @self.drawn(windows(dilated=False), st.sampled_from((np.int8, np.uint8)), st.integers(0, 99))
        def agree(found: dict[str, Any], dtype: Any, seed: int) -> None:
            shape = (1, 2, *found.pop("sizes"))
            x = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
            panel.exactly(_pool("MaxPool", found, False, False), [x])

    def test_adaptive_and_global_pools_agree(self, panel: Panel) -> None:
        """Windows of floor and ceil, of any number of outputs."""

        @self.drawn(
            st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=3),
            st.integers(0, 99),
        )
        def agree(axes: list[tuple[int, int]], seed: int) -> None:
            (x,) = noise(seed, (2, 3, *(size for size, _ in axes)))
            wanted = {"output_size": tuple(count for _, count in axes)}
            for node in (
                Node("AdaptiveAveragePool", ("x",), ("y",), wanted, EXTENSION),
                Node("AdaptiveMaxPool", ("x",), ("y",), wanted, EXTENSION),
                Node("GlobalAveragePool", ("x",)),
                Node("GlobalMaxPool", ("x",)),
                Node("GlobalLpPool", ("x",), attributes={"p": 3}),
            ):
                panel.in_float64(node, [x])
                panel.within(node, [x], 0.0 if "Max" in node.op_type else 2e-6)

    def test_adaptive_average_is_the_mean_of_its_windows(self, panel: Panel) -> None:
        """Windows 0-2, 2-4, 4-6 of floor and ceil."""
        x = np.arange(7, dtype=np.float32).reshape(1, 1, 7)
        node = Node("AdaptiveAveragePool", ("x",), ("y",), {"output_size": (3,)}, EXTENSION)
        for (found,) in panel.run(node, [x]).values():
            assert found.ravel().tolist() == [1.0, 3.0, 5.0]

    def test_convolutions_that_frameworks_treat_apart_agree(self, panel: Panel, convolution: str) -> None:
        """Depthwise, grouped, dilated, cropping."""
        attributes, *shapes = CONVOLUTIONS[convolution]
        node = Node("Conv", ("x", "weight"), attributes=attributes)
        panel.exactly(node, small_integers(1, *shapes))
        panel.in_float64(node, noise(1, *shapes))

    def test_forms_without_a_case_agree_exactly(self, panel: Panel, form: str) -> None:
        """On values for which every order of arithmetic gives the same."""
        node, inputs = EXACT[form]
        panel.exactly(node, inputs)

    def test_matrix_products_agree(self, panel: Panel, product: str) -> None:
        """Vectors, broadcast batches, transposed operands, contractions."""
        op_type, attributes, shapes = MATRICES[product]
        node = Node(op_type, tuple("abc"[: len(shapes)]), attributes=attributes)
        panel.exactly(node, small_integers(7, *shapes))
        panel.in_float64(node, noise(7, *shapes))

    def test_resizes_agree(self, panel: Panel) -> None:
        """Every mode, every way of coordinates."""

        @self.drawn(resizes(), st.integers(0, 99))
        def agree(found: tuple[Node, tuple[int, ...], list[int]], seed: int) -> None:
            node, shape, sizes = found
            inputs = [noise(seed, shape)[0], None, None, np.array(sizes)]
            panel.in_float64(node, inputs)
            panel.within(node, inputs, 0.0 if node.attributes["mode"] == "nearest" else 1e-5)

    def test_an_infinity_reaches_only_the_places_that_read_it(self, panel: Panel) -> None:
        """A neighbour of weight zero is not read."""
        x = np.zeros((1, 1, 1, 9), np.float32)
        x[..., 8] = np.inf
        node = Node("Resize", ("x", "", "", "sizes"), attributes={"mode": "linear"})
        for (found,) in panel.run(node, [x, None, None, np.array([1, 1, 1, 18])]).values():
            assert np.isfinite(found.ravel()).tolist() == [True] * 15 + [False] * 3

    @pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
    @pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
    @pytest.mark.parametrize("corners", [0, 1])
    def test_grid_samples_agree(self, panel: Panel, mode: str, padding: str, corners: int) -> None:
        """In the plane and in space."""
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
        node = Node("GridSample", ("x", "g"), attributes=attributes)
        for space in ((5, 4), (3, 4, 2))[: 1 if mode == "cubic" else 2]:
            x, grid = noise(6, (2, 3, *space), (2, 4, 5, *space[2:], len(space)))
            panel.in_float64(node, [x, grid])
            panel.within(node, [x, grid], 1e-4)

    def test_recurrent_layers_agree(self, panel: Panel) -> None:
        """Directions, lengths, initial states, clipping, activations, peepholes."""

        @self.drawn(recurrent_layers())
        def agree(found: tuple[Node, list[np.ndarray | None]]) -> None:
            panel.in_float64(*found)
            panel.within(*found, 2e-5)

    def test_normalizations_agree(self, panel: Panel, normalization: str) -> None:
        """With the parameters and axes of each."""
        attributes, parameters = NORMALIZATIONS[normalization]
        inputs = noise(3, (2, 4, 5, 3))
        for shape in parameters:
            made = np.abs(noise(4, (4,))[0]) if shape == "variance" else noise(len(inputs), shape)[0]
            inputs.append(made)
        node = Node(normalization.split(maxsplit=1)[0], tuple("xabcd"[: len(inputs)]), attributes=attributes)
        panel.in_float64(node, inputs)
        panel.within(node, inputs, 5e-6)

    def test_functions_agree_on_a_wide_grid(self, panel: Panel, function: str) -> None:
        """Also where they overflow, saturate or are not defined; in float64 relative to each value."""
        x = np.concatenate(
            [np.linspace(-45, 45, 181), np.linspace(-2, 2, 41), [0.0, -0.0, 1e-9, 700.0, -700.0]]
        )
        node = Node(function, ("x",))
        for which, a, b in panel.pairs(node, [x], float64=True):
            finite = np.isfinite(a.astype(float))
            np.testing.assert_array_equal(np.isfinite(b.astype(float)), finite, err_msg=which)
            # relative, with the floor of functions that cancel (NUMERICS 1.1)
            np.testing.assert_allclose(b[finite], a[finite], rtol=1e-12, atol=1e-14, err_msg=which)
        for narrow in (np.float32, np.float16):
            for which, a, b in panel.pairs(node, [x.astype(narrow)]):
                assert a.dtype == b.dtype, which
                assert a.dtype in (narrow, bool)
                assert a.shape == b.shape == x.shape

    def test_places_that_do_not_exist_are_refused(self, panel: Panel, no_place: str) -> None:
        """By every framework, none reads or writes beyond its arrays."""
        node, inputs = NO_PLACE[no_place]
        for name, adapter in panel.adapters.items():
            with pytest.raises(PortingError, match=node.op_type):
                adapter.run(node, inputs)
            panel.compared += 1
            assert name in panel.operators

    def test_cases_that_have_no_truth_agree_in_float64(self, panel: Panel) -> None:
        """The operators that the contract of ``run`` cannot hold against the truth; one framework is held against another."""
        for op_type in WITHOUT_TRUTH:
            for case in cases.cases()[op_type]:
                if any(map(floating, case.inputs)):
                    panel.in_float64(case.node, case.inputs)
        assert panel.compared >= self.at_least


def _pool(op_type: str, found: dict[str, Any], ceil: bool, include: bool) -> Node:
    """A pooling node of drawn attributes; no window lies in the padding alone, where nothing is defined.

    ``auto_pad`` comes without dilation: the standard's formula for it does not have one, and ONNX Runtime gives another size.
    """
    if "auto_pad" in found:
        found["dilations"] = (1,) * len(found["kernel_shape"])
    if "pads" in found and op_type != "LpPool":
        kernels = 2 * found["kernel_shape"]
        found["pads"] = tuple(min(pad, k - 1) for pad, k in zip(found["pads"], kernels, strict=True))
    if ceil and "pads" in found:
        found["ceil_mode"] = 1
    if op_type == "AveragePool":
        found["count_include_pad"] = int(include)
    outputs = ("y", "places") if op_type == "MaxPool" and include else ("y",)
    return Node(op_type, ("x",), outputs, found)
