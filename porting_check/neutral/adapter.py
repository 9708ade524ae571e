"""What a framework's adapter does. Adapters record and run; they never transpose to compare, and never judge."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.errors import Unsupported, UnsupportedNode
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Sink

Inputs = Mapping[str, np.ndarray]
"""Inputs of a model by name, in order. Names ``"0"``, ``"1"``, … are positional; others are keywords or dict entries."""


@dataclass(frozen=True)
class InputSpec:
    """What is known of one input of a model before it runs.

    A spec without a name holds for every input, of which even the number is unknown. ``shape`` has ``None`` where any
    size is accepted, and is ``None`` itself where nothing is known. ``layout`` is ``""`` when unknown; one that does not
    fit the number of axes is not used. Integers are drawn below ``limit`` (the size of an embedding table); given ones
    must be below it only where it is ``certain`` which table the input goes to.

    Example:
        >>> InputSpec("0", (None, 224, 224, 3), "float32", "NHWC").layout
        'NHWC'
    """

    name: str
    shape: Optional[Tuple[Optional[int], ...]] = None
    dtype: str = "float32"
    layout: str = ""
    limit: Optional[int] = None
    certain: bool = True


class Adapter(abc.ABC):
    """One framework.

    Contract, each line a test of the shared suite: the caller's model, inputs, RNG state and train/eval mode are as
    before, also when the forward pass raises; returned arrays are owned numpy; order and repeated calls are kept;
    in-place operators do not rewrite what was recorded; bfloat16 and float8 survive; what could not be recorded is named
    with its reason.
    """

    framework: str
    """Import name, extra and entry-point name: ``torch``."""

    notes: Tuple[str, ...] = ()
    """What the reader must know of the last recording (a kernel that observing changed, values that were widened)."""

    suffixes: Tuple[str, ...] = ()
    """File suffixes that :meth:`load` understands: ``(".keras", ".h5")``."""

    @abc.abstractmethod
    def owns(self, model: Any) -> bool:
        """Whether ``model`` is this framework's, without importing the framework when it is not loaded."""

    @abc.abstractmethod
    def environment(self) -> Environment:
        """Versions, device, threads, and the modes that change numbers."""

    @abc.abstractmethod
    def load(self, path: str) -> Any:
        """Load this framework's own file format, never unpickling untrusted data.

        Raises:
            ModelError: the file is missing, damaged or of another kind.
        """

    @abc.abstractmethod
    def inputs(self, model: Any) -> Tuple[InputSpec, ...]:
        """What is known of the model's inputs; empty when nothing is."""

    @abc.abstractmethod
    def predict(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model unrecorded in inference; outputs by path (``"0"``, ``"logits"``, ``"boxes/1"``).

        Raises:
            RunError: the model raised; the message carries the framework's own first line.
        """

    def repeat(self, model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
        """Two runs in a row, as a user's program would make them: random state goes on between them, and is restored after.

        A model that draws random numbers or keeps a state shows by the difference. Adapters whose :meth:`predict` restores
        the random state override this.

        Raises:
            RunError: the model raised.
        """
        return self.predict(model, inputs), self.predict(model, inputs)

    @abc.abstractmethod
    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """Run the model once in inference and put every layer and operator into ``sink``.

        Raises:
            RunError: the model raised.
        """

    @abc.abstractmethod
    def training(self, model: Any) -> Tuple[str, ...]:
        """Names of layers that are in training mode now and whose inference would differ."""

    @abc.abstractmethod
    def run(
        self, node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Execute one neutral node with the framework's own public operator; canonical layouts in and out.

        Raises:
            UnsupportedNode: the framework has no such operator, or it is not described yet.
        """

    @abc.abstractmethod
    def parameters(self, model: Any) -> Dict[str, np.ndarray]:
        """Every parameter and buffer by native name, in native layout, owned."""

    @abc.abstractmethod
    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """Write these parameters (native names, native layouts) into the model; all or none.

        Raises:
            WeightsError: an unknown name or a wrong shape.
        """

    def replay(
        self, model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Run one layer of the model natively on these inputs; adapters that can override this.

        Raises:
            UnsupportedNode: the layer cannot be called alone.
        """
        raise UnsupportedNode(f"{self.framework} cannot run layer {name!r} alone")

    def float64_outputs(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the whole model in float64, parameters and inputs cast exactly; outputs by path, as :meth:`predict` names them.

        The caller's model stays float32: adapters work on a copy, or restore what they cast. Integer inputs stay as they are.
        :attr:`notes` afterwards say what computed in float32 all the same (naming float32 or float16), and how it was run.

        Raises:
            Unsupported: this kind of model cannot be cast; the message says why.
            RunError: the model raised in float64.
        """
        raise Unsupported(f"{self.framework} models cannot be run in float64 here")

    def gradients(
        self, model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
    ) -> Dict[str, np.ndarray]:
        """Gradients of the sum over outputs of ``output * cotangent``, in inference mode.

        Args:
            model: as before.
            inputs: by name.
            cotangents: one array per floating output, by path, of the output's own shape and layout.
            float64: compute in float64 (see :meth:`float64_outputs`).

        Returns:
            Gradients by the keys that :meth:`record` gives to values on the same inputs: the model's floating inputs
            (``input:...`` or whatever key the recording uses), ``parameter:<native name>``, and the outputs of layers and
            operators; each of its value's shape and layout. A key is absent where no gradient flows (an output that nothing
            differentiable follows, an integer value, a detached or frozen branch). Frozen parameters are differentiated too.

        Raises:
            Unsupported: this kind of model cannot be differentiated; the message says why.
            RunError: the model raised.
        """
        raise Unsupported(f"{self.framework} models cannot be differentiated here")

    def train_layer(
        self, model: Any, name: str, inputs: Sequence[np.ndarray]
    ) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
        """Call one layer of the model alone, in training mode: its outputs, and its state after the call.

        Args:
            model: as before (weights, buffers, mode and random state are restored).
            name: the layer's name in the recording (``Record.name``).
            inputs: its inputs in native layout. A layer whose statistics are inputs (equinox) takes them as inputs 1 and 2,
                and returns them under those names.

        Returns:
            Outputs, and every parameter and buffer of the layer after the call, by native name.

        Raises:
            Unsupported: the layer cannot be called alone.
        """
        raise Unsupported(f"{self.framework} cannot train layer {name!r} alone")

    def owns_optimizer(self, optimizer: Any) -> bool:
        """Whether ``optimizer`` is this framework's, without importing the framework when it is not loaded."""
        return False

    def optimizer_steps(
        self,
        optimizer: Any,
        parameters: Mapping[str, np.ndarray],
        gradients: Sequence[Mapping[str, np.ndarray]],
        *,
        float64: bool = False,
    ) -> Tuple[Dict[str, np.ndarray], ...]:
        """Parameters after each of several steps from a fresh state of the optimiser, on given gradients.

        Args:
            optimizer: a configured optimiser of this framework; its own state and parameters are left as before.
            parameters: to start from, by name.
            gradients: one mapping per step.
            float64: compute in float64.

        Raises:
            Unsupported: the optimiser is of another framework or kind.
        """
        raise Unsupported(f"{self.framework} has no optimisers here")
