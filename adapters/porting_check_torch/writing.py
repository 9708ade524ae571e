"""Records as they are written: named, counted, with the values that they read and make."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch

from porting_check.neutral.trace import Port, Record, Sink
from porting_check_torch.describe import Description, Draft, Function, Ref, Undescribed
from porting_check_torch.values import Values


class Head(NamedTuple):
    """Name of a record, and which call of that name it is.

    Example:
        >>> Head("conv1", 0).id, Head("conv1", 2).id
        ('conv1', 'conv1#2')
    """

    name: str
    call: int

    @property
    def id(self) -> str:
        """As :attr:`Record.id`."""
        return self.name if self.call == 0 else f"{self.name}#{self.call}"


class Writer:
    """Names records and hands them to the sink, after the values that they name."""

    def __init__(self, sink: Sink, values: Values) -> None:
        self._sink = sink
        self._values = values
        self._calls: Dict[str, int] = Counter()

    def begin(self, name: str, outputs: Sequence[torch.Tensor]) -> Tuple[Head, List[Ref]]:
        """The next record of this name; its outputs are stored as new values."""
        head = Head(name, self._calls[name])
        self._calls[name] += 1
        made = [self._values.make(tensor, f"{head.id}:{place}") for place, tensor in enumerate(outputs)]
        return head, made

    def write(
        self, head: Head, operator: str, what: Description, reason: str, location: str, refs: Sequence[Ref]
    ) -> None:
        """Store what the record reads, and the record."""
        read = {port.value for port in what.inputs + what.parameters}
        for ref in refs:
            if ref.key in read:
                self._values.use(ref)
        ports = (what.inputs, what.outputs, what.parameters)
        self._sink.record(Record(*head, operator, *ports, what.nodes, what.constants, reason, location))


def described(
    function: Function, draft: Draft, arguments: Tuple[Any, Any], refs: Sequence[Ref]
) -> Tuple[Description, str]:
    """The description of a call; one without nodes, and the reason, where there is none."""
    try:
        function.describe(draft, *arguments)
        return draft.finish(), ""
    except Undescribed as refusal:
        reason = f"{function.spoken} {refusal}"
    except Exception as error:  # a form of call that the describer does not know must not end the recording
        reason = f"{function.spoken} could not be described: {type(error).__name__}: {error}"
    return opaque(refs, draft.outputs), reason


def opaque(refs: Sequence[Ref], made: Sequence[Ref]) -> Description:
    """Only what went in and came out."""
    keys = list(dict.fromkeys(ref.key for ref in refs))
    ports = [Port(f"x{place}", key) for place, key in enumerate(keys)]
    outputs = tuple(Port(f"y{place}" if len(made) > 1 else "y", ref.key) for place, ref in enumerate(made))
    parameters = tuple(port for port in ports if port.value.startswith("parameter:"))
    return Description(tuple(port for port in ports if port not in parameters), outputs, parameters, ())


def plain_name(name: str) -> str:
    """A function's name without dunders and the underscore of in-place variants.

    Example:
        >>> plain_name("__getitem__"), plain_name("relu_"), plain_name("T.__get__")
        ('getitem', 'relu', 'T')
    """
    return name.replace(".__get__", "").replace(".__set__", "").strip("_")


def contains(tensors: Sequence[Optional[torch.Tensor]], tensor: torch.Tensor) -> bool:
    """Whether a tensor is one of these, by identity."""
    return any(item is tensor for item in tensors)


def distinct(tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """Each tensor once, in order."""
    return list({id(tensor): tensor for tensor in tensors}.values())
