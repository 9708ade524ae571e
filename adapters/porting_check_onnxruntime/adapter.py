"""The adapter: what the core asks of ONNX Runtime."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime

from porting_check.neutral.adapter import Adapter, Inputs, InputSpec
from porting_check.neutral.errors import Unsupported
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Sink
from porting_check_onnxruntime.loading import SUFFIXES, load_model
from porting_check_onnxruntime.model import OnnxModel, as_model, default_level
from porting_check_onnxruntime.prepared import Prepared, prepare
from porting_check_onnxruntime.record import record_model
from porting_check_onnxruntime.session import PROVIDERS, Session, dtype_of, is_tensor
from porting_check_onnxruntime.specs import checked_feeds, input_specs


class OnnxRuntimeAdapter(Adapter):
    """Records, runs and reads ONNX models.

    Example:
        >>> from onnx import TensorProto, helper
        >>> from porting_check.neutral.trace import MemorySink
        >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
        >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "g", ends[:1], ends[1:])
        >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        >>> adapter, sink = OnnxRuntimeAdapter(), MemorySink()
        >>> adapter.record(model, {"x": np.array([[-1, 2]], np.float32)}, sink)
        >>> print(sink.records[0].name, sink.records[0].nodes[0])
        act Relu()

    Attributes:
        notes: what the last recording must tell its reader, beside the trace.
    """

    framework = "onnxruntime"
    suffixes = SUFFIXES

    def __init__(self) -> None:
        self.notes: Tuple[str, ...] = ()
        self._modes: Dict[str, str] = {}

    def owns(self, model: Any) -> bool:
        """An onnx.ModelProto, or what :meth:`load` returns."""
        if isinstance(model, OnnxModel):
            return True
        module = sys.modules.get("onnx")
        return module is not None and isinstance(model, module.ModelProto)

    def environment(self) -> Environment:
        """Versions, threads, and the modes of the model last run: level, opset, file format."""
        return Environment(
            "onnxruntime",
            {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__},
            threads=os.cpu_count() or 0,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            modes={"providers": ",".join(PROVIDERS), **(self._modes or {"optimization": default_level()})},
        )

    def load(self, path: str) -> OnnxModel:
        """Read an ``.onnx`` file; its external data stay where they are.

        Raises:
            ModelError: missing, damaged, or with external data that are missing or outside of its folder.
        """
        return load_model(path)

    def inputs(self, model: Any) -> Tuple[InputSpec, ...]:
        """As the graph declares them; layouts follow from what reads them.

        Raises:
            ModelError: the graph is invalid.
        """
        return input_specs(prepare(as_model(model)))

    def predict(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model as it is, at its level of optimisation; outputs by name.

        Raises:
            ModelError: ONNX Runtime refuses the model.
            InputError: inputs that the model does not take.
            RunError: a kernel failed.
        """
        session, feeds = self._opened(model, inputs)
        return _outputs(session, feeds)

    def repeat(self, model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
        """Two runs of one session.

        Raises:
            RunError: a kernel failed.
        """
        session, feeds = self._opened(model, inputs)
        return _outputs(session, feeds), _outputs(session, feeds)

    def _opened(self, model: Any, inputs: Inputs) -> Tuple[Session, Dict[str, np.ndarray]]:
        """A plain session, and the inputs as it takes them."""
        model = as_model(model)
        prepared = prepare(model)
        self._note(model, prepared)
        feeds = checked_feeds(prepared, inputs)
        return Session(prepared.proto, prepared.heavy, prepared.folder, model.optimization), feeds

    def _note(self, model: OnnxModel, prepared: Prepared) -> None:
        """The modes of the model that runs now."""
        opsets = {f"opset {domain or 'ai.onnx'}": str(version) for domain, version in prepared.opsets.items()}
        self._modes = {
            "optimization": model.optimization,
            "ir_version": str(prepared.proto.ir_version),
            **opsets,
        }

    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """Run the model once with every value exposed and put every node into the sink.

        Raises:
            ModelError: ONNX Runtime refuses the model.
            InputError: inputs that the model does not take.
            RunError: a kernel failed.
        """
        model = as_model(model)
        prepared = prepare(model)
        self._note(model, prepared)
        feeds = checked_feeds(prepared, inputs)
        self.notes = tuple(record_model(prepared, model.optimization, feeds, sink))

    def training(self, model: Any) -> Tuple[str, ...]:
        """None: an ONNX model is an inference graph; nodes in training mode stay opaque with their reason."""
        return ()

    def run(
        self, node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Execute one node with ONNX Runtime's own kernels.

        Raises:
            UnsupportedNode: there is no kernel for it.
        """
        from porting_check_onnxruntime.run import run

        return run(node, inputs, float64=float64)

    def parameters(self, model: Any) -> Dict[str, np.ndarray]:
        """Weights by the names of their initializers, owned."""
        from porting_check_onnxruntime.weights import read_parameters

        return read_parameters(as_model(model))

    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """Write arrays into the ModelProto, all or none.

        Raises:
            WeightsError: an unknown name, another shape or dtype, or a weight that is stored outside of the model.
        """
        from porting_check_onnxruntime.weights import write_parameters

        write_parameters(as_model(model), parameters)

    def replay(
        self, model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Run the node of one record alone.

        Raises:
            UnsupportedNode: no such node in the main graph, or no kernel for float64.
        """
        from porting_check_onnxruntime.replay import replay

        return replay(as_model(model), name, inputs, float64=float64)

    def float64_outputs(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model node by node in float64; ``notes`` say what ONNX Runtime has no kernels for and what stayed float32.

        Raises:
            Unsupported: an operator that nothing at hand computes in float64.
            InputError: inputs that the model does not take.
        """
        try:
            from porting_check_onnxruntime.float64 import float64_outputs
        except ImportError as error:
            raise Unsupported(
                f"onnx {onnx.__version__} has no reference implementation, which stands in where ONNX Runtime has no "
                "kernels in float64: expected onnx 1.13 or newer"
            ) from error

        outputs, notes = float64_outputs(as_model(model), inputs)
        self.notes = tuple(notes)
        return outputs

    def gradients(
        self, model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
    ) -> Dict[str, np.ndarray]:
        """ONNX Runtime only runs models forwards.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            "ONNX Runtime only runs models forwards: give the model that the file was exported from to have its gradients"
        )


def _outputs(session: Session, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """One plain run; outputs that are no tensors of numbers are left out."""
    wanted = [name for name, kind in session.outputs.items() if dtype_of(kind)]
    found = session.run(wanted, feeds)
    return {name: np.array(value) for name, value in found.items() if is_tensor(value)}
