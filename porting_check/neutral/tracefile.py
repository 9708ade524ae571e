"""Traces on disk: a folder of safetensors shards and one JSON-lines index, written as a stream.

``index.jsonl`` begins with a head (schema, model, environment), has one line per value and per record, and ends with a
tail that counts them and carries the digests of the shards and of all lines before it. A folder without the tail was cut
short. While it is being written the folder is called ``NAME.partial``; only a whole recording gets its name.
"""

from __future__ import annotations

import collections.abc
import errno
import hashlib
import json
import os
import re
import shutil
from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Set

import numpy as np

from porting_check.neutral.errors import RecordingError, TraceError
from porting_check.neutral.tensorfile import CODES, read_header, read_tensor, write_tensors
from porting_check.neutral.trace import Checks, Environment, Port, Record, Sink, Trace

SCHEMA = 1
"""Version of the format; a reader accepts this one."""

INDEX = "index.jsonl"
SHARD_BYTES = 64 * 2**20
"""Values are gathered up to this many bytes before a shard is written: the bound on the writer's memory."""

LINE_LIMIT = 64 * 2**20
"""Longest line of an index that is read; constants are small, so a longer one is hostile or damaged."""

_DTYPES = frozenset(list(CODES.values()) + ["complex128"])

_SHARD = re.compile(r"^values-\d{5,9}\.safetensors$")


class TraceWriter(Sink):
    """A sink that streams a recording to a folder with bounded memory. Use as a context manager.

    Example:
        >>> with TraceWriter("tf.trace", "resnet50", environment) as sink:   # doctest: +SKIP
        ...     adapter.record(model, inputs, sink)
        ...     sink.finish(Checks())

    Raises:
        RecordingError: the folder exists and is no recording, cannot be written, or the disk is full; what was written
            so far stays under ``NAME.partial`` without a tail, and is refused by :func:`load_trace`.
    """

    def __init__(
        self, path: str, model: str, environment: Environment, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.path, self.partial, self.shard_bytes = (
            os.fspath(path),
            os.fspath(path).rstrip("/\\") + ".partial",
            shard_bytes,
        )
        self._pending: Dict[str, np.ndarray] = {}
        self._bytes = 0
        self._shards: Dict[str, str] = {}
        self._keys: Set[str] = set()
        self._records = 0
        self._ports: Dict[str, List[List[str]]] = {"inputs": [], "outputs": []}
        self._head = {"schema": SCHEMA, "model": model, "environment": environment.to_json()}
        self._file: Optional[IO[str]] = None
        self._digest = hashlib.sha256()

    def __enter__(self) -> TraceWriter:
        refuse_foreign(self.path)
        with _Explained(self.path):
            if os.path.isdir(self.partial):
                shutil.rmtree(self.partial)
            os.makedirs(self.partial)
            self._file = open(os.path.join(self.partial, INDEX), "w", encoding="utf-8", newline="\n")  # noqa: SIM115 closed in __exit__
            self._line({"head": self._head})
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file is not None:
            self._file.close()

    def value(self, key: str, array: np.ndarray) -> None:
        """Queue one tensor; a shard is written when enough bytes are waiting. A key that is known already is ignored."""
        if key in self._keys:
            return
        self._keys.add(key)
        self._pending[key] = array
        self._bytes += array.nbytes
        if self._bytes >= self.shard_bytes:
            self._flush()

    def record(self, record: Record) -> None:
        """Append one record to the index."""
        self._records += 1
        with _Explained(self.path):
            self._line({"record": record.to_json()})

    def input(self, port: Port) -> None:
        """Declare an input of the model."""
        self._ports["inputs"].append(port.to_json())

    def output(self, port: Port) -> None:
        """Declare an output of the model."""
        self._ports["outputs"].append(port.to_json())

    def finish(self, checks: Checks, kept: Optional[Mapping[str, Any]] = None) -> None:
        """Write what is waiting and the tail, and give the folder its name.

        Args:
            checks: what the recorder verified.
            kept: of a pruned recording, its statement of what was dropped.

        Raises:
            RecordingError: the disk is full or the folder cannot be replaced.
        """
        self._flush()
        tail = {
            "checks": checks.to_json(),
            "shards": self._shards,
            "values": len(self._keys),
            "records": self._records,
            "index": self._digest.hexdigest(),
        }
        tail.update(self._ports)
        if kept is not None:
            tail["kept"] = dict(kept)
        with _Explained(self.path):
            self._line({"tail": tail})
            assert self._file is not None
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            if os.path.isdir(self.path):
                shutil.rmtree(self.path)
            os.rename(self.partial, self.path)

    def _flush(self) -> None:
        if not self._pending:
            return
        name = f"values-{len(self._shards):05d}.safetensors"
        with _Explained(self.path):
            self._shards[name] = write_tensors(os.path.join(self.partial, name), self._pending)
            self._line({"shard": name, "values": list(self._pending)})
        self._pending, self._bytes = {}, 0

    def _line(self, data: Mapping[str, Any]) -> None:
        assert self._file is not None, "use the writer as a context manager"
        text = json.dumps(data, separators=(",", ":")) + "\n"
        self._digest.update(text.encode("utf-8"))
        self._file.write(text)


class _Explained:
    """Turns the operating system's errors while writing into a message with the way out."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, OSError):
            return
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or str(error)
        hint = "free some space or record elsewhere" if full else "choose a folder that can be written"
        raise RecordingError(
            f"the recording {self.path!r} could not be written: {why}; {hint}. "
            f"What was written is in {self.path + '.partial'!r} and is not a whole recording"
        ) from error


def refuse_foreign(path: str) -> None:
    """Only a recording may be replaced by a recording."""
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path) or not (os.path.isfile(os.path.join(path, INDEX)) or not os.listdir(path)):
        raise RecordingError(f"{path!r} exists and is not a recording; it is left alone. Choose another path")


def load_trace(path: str, verify: bool = False) -> Trace:
    """Open a recording; tensors are read when they are asked for, by memory map.

    Args:
        path: the folder.
        verify: also compare the digest of every shard with the one noted when it was written, which reads all of them
            (a megabyte at a time). The index is compared with its digest always.

    Raises:
        TraceError: no recording there, cut short, damaged, of another version, or naming files outside its folder.

    Example:
        >>> load_trace("tf.trace").records[0].name    # doctest: +SKIP
        'conv1'
    """
    path = os.fspath(path)
    index = _index(path)
    lines = _lines(index)
    try:
        head = _head(path, next(lines, {}))
        records, homes, tail = _body(path, lines)
        trace = _assemble(path, head, records, homes, tail)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise TraceError(
            f"{index}: a line does not have the form of schema {SCHEMA}: {type(error).__name__}: {error}"
        ) from None
    if verify:
        _verify(path, tail["shards"], homes)
    return trace


def digest_of(path: str) -> str:
    """The SHA-256 that names a recording: that of its index, which holds the digests of all its values.

    It is what ``sha256sum NAME.trace/index.jsonl`` prints.

    Raises:
        TraceError: no recording there.

    Example:
        >>> digest_of("tf.trace")[:8]        # doctest: +SKIP
        '0c4a9ff1'
    """
    return _file_digest(_index(os.fspath(path)))


def _index(path: str) -> str:
    """The index of a recording that is there."""
    index = os.path.join(path, INDEX)
    if os.path.isfile(index):
        return index
    found = f"is not a recording: it has no {INDEX}" if os.path.exists(path) else "does not exist"
    partial = os.path.isdir(path + ".partial")
    raise TraceError(
        f"{path!r} {found}"
        + (" (a recording that was cut short lies beside it: record again)" if partial else "")
    )


def _file_digest(path: str) -> str:
    """SHA-256 of a file, read piece by piece."""
    digest, buffer = hashlib.sha256(), bytearray(2**20)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        for count in iter(lambda: file.readinto(buffer), 0):  # noqa: B023 file is used at once
            digest.update(view[:count])
    return digest.hexdigest()


def _lines(index: str) -> Iterator[Dict[str, Any]]:
    """The index line by line; a last line without its newline is a sign of a cut, and the tail must fit what stands before.

    Recordings made before the tail held a digest of the index have none to compare.
    """
    digest, ended = hashlib.sha256(), False
    with open(index, "rb") as file:
        for number in range(1, 2**62):
            line = file.readline(LINE_LIMIT)
            if not line:
                return
            if ended:
                raise TraceError(f"{index}:{number}: the index goes on after its tail; record again")
            if not line.endswith(b"\n"):
                raise TraceError(
                    f"{index}:{number}: the line is cut short or longer than {LINE_LIMIT} bytes; record again"
                )
            try:
                data = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise TraceError(f"{index}:{number}: not JSON: {str(error)[:100]}") from None
            if not isinstance(data, dict):
                raise TraceError(f"{index}:{number}: expected an object, found a {type(data).__name__}")
            if "tail" in data:
                ended, noted = True, data["tail"].get("index")
                if noted is not None and noted != digest.hexdigest():
                    raise TraceError(
                        f"{index}: changed since it was recorded (its digest differs); record again"
                    )
            digest.update(line)
            yield data


def _head(path: str, line: Mapping[str, Any]) -> Dict[str, Any]:
    head = line.get("head")
    if not isinstance(head, dict):
        raise TraceError(
            f"{path!r}: the index does not begin with a head; this is not a recording of porting-check"
        )
    if head.get("schema") != SCHEMA:
        raise TraceError(
            f"{path!r}: recorded with schema {head.get('schema')!r}, this version reads {SCHEMA}; record again"
        )
    return head


def _body(path: str, lines: Iterator[Mapping[str, Any]]) -> Any:
    """Records, the shard of every value, and the tail."""
    records: List[Record] = []
    homes: Dict[str, str] = {}
    tail: Optional[Dict[str, Any]] = None
    for line in lines:
        if "record" in line:
            records.append(Record.from_json(line["record"]))
        elif "shard" in line:
            if not _SHARD.match(str(line["shard"])):
                raise TraceError(
                    f"{path!r}: names the file {line['shard']!r}, which is no shard of a recording: refused"
                )
            homes.update({str(key): line["shard"] for key in line["values"]})
        elif "tail" in line:
            tail = line["tail"]
    if tail is None:
        raise TraceError(
            f"{path!r}: the recording was cut short (no tail after {len(records)} records); record again"
        )
    if tail["records"] != len(records) or tail["values"] != len(homes):
        raise TraceError(
            f"{path!r}: the tail counts {tail['records']} records and {tail['values']} values, the index holds "
            f"{len(records)} and {len(homes)}: damaged; record again"
        )
    return records, homes, tail


def _assemble(
    path: str,
    head: Mapping[str, Any],
    records: List[Record],
    homes: Mapping[str, str],
    tail: Mapping[str, Any],
) -> Trace:
    values = StoredValues(path, homes)
    ports = {side: tuple(Port(*port) for port in tail[side]) for side in ("inputs", "outputs")}
    used = [p.value for r in records for p in r.inputs + r.outputs + r.parameters]
    whole = [p.value for s in ports.values() for p in s]
    kept = _pruned(path, tail.get("kept"), homes)
    dropped = kept["dropped"] if kept is not None else {}
    missing = sorted({key for key in used if key not in homes and key not in dropped})
    missing += sorted({key for key in whole if key not in homes})
    if missing:
        raise TraceError(
            f"{path!r}: records name values that are not stored: {missing[:5]}; damaged, record again"
        )
    environment = Environment.from_json(head["environment"])
    checks = Checks.from_json(tail["checks"])
    return Trace(
        str(head["model"]),
        environment,
        ports["inputs"],
        ports["outputs"],
        tuple(records),
        values,
        checks,
        kept,
    )


def _pruned(path: str, kept: Any, homes: Mapping[str, str]) -> Optional[Dict[str, Any]]:
    """The checked statement of a pruned recording: only values that it names, with shape and dtype, may be missing."""
    if kept is None:
        return None
    for key, note in kept["dropped"].items():
        whole = all(type(size) is int and 0 <= size < 2**48 for size in note["shape"])
        if key in homes or not whole or len(note["shape"]) > 32 or note["dtype"] not in _DTYPES:
            raise TraceError(
                f"{path!r}: the statement of what was dropped does not hold for {key!r} ({str(note)[:80]}); damaged"
            )
    return dict(kept)


def _verify(path: str, shards: Mapping[str, str], homes: Mapping[str, str]) -> None:
    """Every shard that holds a value has the digest that the tail notes."""
    for name in sorted(set(homes.values())):
        file = os.path.join(path, name)
        if name not in shards:
            raise TraceError(f"{file}: the recording notes no digest of it; damaged, record again")
        if _file_digest(file) != shards[name]:
            raise TraceError(f"{file}: changed since it was recorded (its digest differs); record again")


class StoredValues(collections.abc.Mapping):  # type: ignore[type-arg]  # not subscriptable on Python 3.7
    """The values of a recording on disk: a read-only mapping that opens a tensor when it is asked for."""

    def __init__(self, path: str, homes: Mapping[str, str]) -> None:
        self.path = path
        self._path, self._homes = path, homes
        self._headers: Dict[str, Dict[str, Any]] = {}
        for shard in sorted(set(homes.values())):
            self._headers[shard] = self._open(shard)
        for key, shard in homes.items():
            if key not in self._headers[shard]["tensors"]:
                raise TraceError(
                    f"{os.path.join(path, shard)}: value {key!r} is missing; damaged, record again"
                )

    def _open(self, shard: str) -> Dict[str, Any]:
        file = os.path.join(self._path, shard)
        if os.path.islink(file) or not os.path.isfile(file):
            raise TraceError(f"{file}: missing, or not a plain file; the recording is damaged")
        return read_header(file)

    def __getitem__(self, key: str) -> np.ndarray:
        shard = self._homes[key]
        return read_tensor(os.path.join(self._path, shard), key, self._headers[shard])

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)
