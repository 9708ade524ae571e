"""Records as they are written: named, counted, with the values that they read and make."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.trace import Port, Record, Sink
from porting_check_jax import compat
from porting_check_jax.draft import Description, Draft, Ref, Undescribed
from porting_check_jax.values import Values


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

    def begin(self, name: str) -> Head:
        """The next record of this name."""
        head = Head(name, self._calls[name])
        self._calls[name] += 1
        return head

    def withdraw(self, head: Head) -> None:
        """Give a name back that was not used after all."""
        self._calls[head.name] -= 1

    def future(self, head: Head, outputs: Sequence[Any]) -> List[Ref]:
        """What the outputs will be called; one that is also an argument is known as that until :meth:`write`."""
        return [
            Ref(f"{head.id}:{place}", tuple(array.shape), compat.dtype_of(array))
            for place, array in enumerate(outputs)
        ]

    def write(
        self,
        head: Head,
        operator: str,
        what: Description,
        reason: str,
        location: str,
        given: Sequence[Tuple[Any, Ref]],
        outputs: Sequence[Any],
    ) -> None:
        """Store what the record reads and makes, and the record."""
        read = {port.value for port in what.inputs + what.parameters}
        for array, ref in given:
            if ref.key in read:
                self._values.use(array, ref)
        for place, array in enumerate(outputs):
            self._values.make(array, f"{head.id}:{place}")
        ports = (what.inputs, what.outputs, what.parameters)
        self._sink.record(Record(*head, operator, *ports, what.nodes, what.constants, reason, location))


def described(
    describe: Callable[[Draft], None], spoken: str, draft: Draft, refs: Sequence[Ref]
) -> Tuple[Description, str]:
    """The description of a call; one without nodes, and the reason, where there is none."""
    try:
        describe(draft)
        return draft.finish(), ""
    except (Undescribed, PaddingError) as refusal:
        reason = f"{spoken} {refusal}"
    except Exception as error:  # a form of call that the describer does not know must not end the recording
        reason = f"{spoken} could not be described: {type(error).__name__}: {error}"
    return opaque(refs, draft.outputs), reason


def opaque(refs: Sequence[Ref], made: Sequence[Ref]) -> Description:
    """Only what went in and came out."""
    keys = list(dict.fromkeys(ref.key for ref in refs))
    ports = [Port(f"x{place}", key) for place, key in enumerate(keys)]
    outputs = tuple(Port(f"y{place}" if len(made) > 1 else "y", ref.key) for place, ref in enumerate(made))
    parameters = tuple(port for port in ports if port.value.startswith("parameter:"))
    return Description(tuple(port for port in ports if port not in parameters), outputs, parameters, ())
