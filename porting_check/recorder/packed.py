"""The command line of ``porting-check-recorder.pyz``: record a model, or run a network, where only a framework is installed.

Standard library and numpy only, Python 3.7; numpy is imported when a command needs it. Exit status as everywhere: 0 done,
2 wrong usage, 3 it could not be run, 130 interrupted. Errors are one line; ``PORTING_CHECK_DEBUG=1`` shows the traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, TextIO

from porting_check.neutral.errors import NOT_RUN, USAGE, InputError, ModelError, PortingError, RunError
from porting_check.recorder import packed_info

PROGRAM = packed_info.PROGRAM
INTERRUPTED = 130
EPILOG = "Exit status: 0 done, 2 wrong usage, 3 it could not be run, 130 interrupted."
SHOWN = 5
"""Reasons that are printed; the rest are in the files."""

MODEL_HELP = (
    "a model file (.onnx .keras .h5 .pt2 .pt .tflite .pb), a SavedModel folder, file.py:function or "
    "package.module:function"
)


def program() -> NoReturn:
    """What the archive runs: results go to stdout, and nothing that a framework or a model prints does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", errors="backslashreplace")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    status = main(sys.argv[1:], ours)
    try:
        ours.close()
    except OSError:  # the reader went away
        pass
    sys.exit(status)


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Run one command; its exit status.

    Args:
        arguments: of the command line, without the program.
        out: receives the result; errors go to standard error.

    Example:
        >>> main(["record", "net.pt", "--inputs", "x.npy", "--out", "net.trace"], sys.stdout)    # doctest: +SKIP
        0
    """
    try:
        options = _parser(out).parse_args(arguments or ["--help"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    if not getattr(options, "verb", None):
        return _failed(USAGE, "say what to do: record, run or info; see --help")
    return _guarded(lambda: int(options.verb(options, out)))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and prints where the program prints."""

    stream: Optional[TextIO] = None

    def error(self, message: str) -> NoReturn:
        sys.exit(_failed(USAGE, f"{message}; see {self.prog} --help"))

    def print_help(self, file: Any = None) -> None:
        super().print_help(file or _Parser.stream)


class _Version(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> NoReturn:
        _tell(_Parser.stream, packed_info.version_line())
        sys.exit(0)


def _parser(out: TextIO) -> argparse.ArgumentParser:
    _Parser.stream = out
    parser = _Parser(
        prog=PROGRAM,
        epilog=EPILOG,
        description="Record a model, or run a network in the neutral language, with the framework of this Python.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="version and digest of this file")
    verbs = parser.add_subparsers(metavar="COMMAND")
    _add_record(
        verbs.add_parser("record", help="run a model once and keep what every layer computed", epilog=EPILOG)
    )
    _add_run(
        verbs.add_parser(
            "run", help="run every node of a recording with a framework's own operators", epilog=EPILOG
        )
    )
    info = verbs.add_parser(
        "info", help="which frameworks this Python has, and whether they load", epilog=EPILOG
    )
    info.add_argument("--quick", action="store_true", help="do not import them")
    info.add_argument("--json", action="store_true", help="one JSON document")
    info.add_argument("--framework", metavar="NAME", help="look at this one only")
    info.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    info.set_defaults(verb=packed_info.info)
    return parser


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--out", "-o", metavar="FOLDER", required=True, help="the recording to write")
    parser.add_argument(
        "--inputs",
        "-i",
        metavar="[NAME=]FILE",
        action="append",
        default=[],
        help=".npy, .npz, .safetensors or an image, in the model's own layout; repeat for several; seeded noise if left out",
    )
    parser.add_argument(
        "--layout",
        metavar="[INPUT=]LAYOUT",
        action="append",
        default=[],
        help="order of an input's axes where it cannot be known: NHWC",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the noise")
    parser.add_argument("--no-check", action="store_true", help="leave out the two unrecorded runs before")
    parser.add_argument("--float64", action="store_true", help="also run the whole model in float64")
    parser.set_defaults(verb=record)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network", metavar="NETWORK", help="a recording; its nodes are fed with what it holds"
    )
    parser.add_argument(
        "--framework", metavar="NAME", required=True, help="torch, tensorflow, jax, onnxruntime"
    )
    parser.add_argument(
        "--out", "-o", metavar="FOLDER", required=True, help="receives values.safetensors, result.json"
    )
    parser.add_argument("--float64", action="store_true", help="compute in float64")
    parser.set_defaults(verb=run)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def record(options: Any, out: TextIO) -> int:
    """``record``: open the model, choose its inputs, record it."""
    packed_info.need_numpy()
    from porting_check.neutral.tracefile import load_trace
    from porting_check.recorder.__main__ import record_to
    from porting_check.recorder.sources import is_trace

    request = {
        "seed": options.seed,
        "inputs": files(options.inputs),
        "layouts": layouts(options.layout),
        "check": not options.no_check,
        "float64": options.float64,
    }
    if is_trace(options.model):
        raise ModelError(f"{options.model!r} is (or is called like) a recording; record takes {MODEL_HELP}")
    record_to(options.model, options.out, lambda: request, _progress())
    _tell(out, "\n".join(_facts(options.model, load_trace(options.out)) + [f"wrote {options.out}"]))
    return 0


def _facts(model: str, trace: Any) -> List[str]:
    """What a recording holds, and what its reader must know of it."""
    lines = [
        f"{model}: {len(trace.records)} records, {len(trace.values)} values; {_where(trace.environment)}"
    ]
    if trace.checks.observer_difference:
        lines.append(f"  recording changed an output by {trace.checks.observer_difference:.3g}")
    if trace.checks.repeat_difference:
        lines.append(f"  two unrecorded runs differ by {trace.checks.repeat_difference:.3g}")
    if trace.checks.training:
        lines.append(f"  in training mode: {', '.join(trace.checks.training[:SHOWN])}")
    return lines + [f"  {note}" for note in tuple(trace.checks.notes) + tuple(trace.checks.float64)]


def files(items: Sequence[str]) -> Dict[str, str]:
    """``FILE`` and ``name=FILE`` by input name; a lone file without a name keeps the names inside it.

    Example:
        >>> files(["cat.npy"]), files(["ids=a.npy"]), files(["a.npy", "b.npy"])
        ({'': 'cat.npy'}, {'ids': 'a.npy'}, {'0': 'a.npy', '1': 'b.npy'})

    Raises:
        InputError: no file, or an input that is given twice.
    """
    found: Dict[str, str] = {}
    for position, item in enumerate(items):
        name, equals, path = item.partition("=")
        if not equals or os.path.exists(item):
            name, path = "" if len(items) == 1 else str(position), item
        if not path or name in found:
            raise InputError(
                f"--inputs {item!r} " + (f"gives input {name!r} a second time" if path else "names no file")
            )
        found[name] = path
    return found


def layouts(items: Sequence[str]) -> Dict[str, str]:
    """``NHWC`` for all inputs (under ``""``), or ``image=NHWC`` for one.

    Example:
        >>> layouts(["NHWC"]), layouts(["image=NHWC", "mask=NHW"])
        ({'': 'NHWC'}, {'image': 'NHWC', 'mask': 'NHW'})

    Raises:
        InputError: one layout for all inputs beside others, or half of an assignment.
    """
    if len(items) == 1 and "=" not in items[0]:
        return {"": items[0]}
    found: Dict[str, str] = {}
    for item in items:
        name, _, layout = item.partition("=")
        if not name or not layout:
            raise InputError(f"--layout {item!r} is not of the form INPUT=LAYOUT")
        found[name] = layout
    return found


def run(options: Any, out: TextIO) -> int:
    """``run``: every node of a recording on the values that the recording holds, and once in a row."""
    packed_info.need_numpy()
    from porting_check.neutral.graph import Graph
    from porting_check.neutral.tracefile import load_trace
    from porting_check.recorder.machine import surroundings
    from porting_check.recorder.network import RESULT, VALUES, is_fed, run_network
    from porting_check.recorder.registry import load_adapter

    _refuse_foreign(options.out, RESULT, VALUES)
    graph = Graph(load_trace(options.network))
    count = sum(1 for step in graph.steps if step.node is not None and is_fed(graph, step))
    if not count:
        raise RunError(f"{options.network!r} holds no node that could be run: every layer in it is opaque")
    started = time.perf_counter()
    adapter = load_adapter(options.framework)
    environment = surroundings(adapter)
    imported = time.perf_counter() - started
    _folder(options.out, RESULT, VALUES)
    result = run_network(adapter, options.network, options.out, float64=options.float64)
    document = dict(environment=environment.to_json(), import_seconds=imported, **result)
    with open(os.path.join(options.out, RESULT), "w", encoding="utf-8") as file:
        json.dump(document, file)
    refused = result["refused"]
    lines = [f"{options.network}: {count - len(refused)} of {count} nodes run; {_where(environment)}"]
    lines += [f"  step {index}: {reason}" for index, reason in list(refused.items())[:SHOWN]]
    lines += [f"  in a row: {result['broken']}"] if result["broken"] else []
    _tell(out, "\n".join(lines + [f"wrote {options.out}"]))
    return NOT_RUN if len(refused) == count else 0


def _refuse_foreign(path: str, *ours: str) -> None:
    """Only an empty folder or one with earlier results may receive results.

    Raises:
        RunError: something else is there.
    """
    if os.path.lexists(path) and (not os.path.isdir(path) or set(os.listdir(path)) - set(ours)):
        raise RunError(f"{path!r} exists and is not a result of run; it is left alone. Choose another path")


def _folder(path: str, *ours: str) -> None:
    """A folder for results; earlier ones go."""
    os.makedirs(path, exist_ok=True)
    for name in ours:
        if os.path.exists(os.path.join(path, name)):
            os.remove(os.path.join(path, name))


def _where(environment: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return f"{versions}, Python {environment.python}, {environment.device}"


def _progress() -> Callable[[str, int, int], None]:
    """One line that is written again, where a person is looking."""
    if not sys.stderr.isatty():
        return lambda stage, done, total: None

    def show(stage: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{stage} {done}" + (f" of {total}" if total else "") + "\x1b[K\r")
        sys.stderr.flush()

    return show


def _guarded(action: Callable[[], int]) -> int:
    """Run a command and turn whatever happens into an exit status and one line."""
    try:
        return action()
    except KeyboardInterrupt:
        return _failed(INTERRUPTED, "interrupted")
    except PortingError as error:
        _debug()
        return _failed(error.exit_status, str(error))
    except SystemExit as error:
        return _failed(NOT_RUN, f"the model ended the process itself (status {error.code})")
    except MemoryError:
        return _failed(NOT_RUN, "out of memory; use a smaller batch or smaller inputs")
    except OSError as error:
        _debug()
        return _failed(NOT_RUN, f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:
        _debug()
        hint = "this is a fault of porting-check; PORTING_CHECK_DEBUG=1 shows where"
        return _failed(NOT_RUN, f"unexpected {type(error).__name__}: {error} ({hint})")


def _debug() -> None:
    if os.environ.get("PORTING_CHECK_DEBUG", "") not in ("", "0"):
        traceback.print_exc()


def _failed(status: int, message: str) -> int:
    lines: List[str] = [line.strip() for line in message.splitlines() if line.strip()]
    sys.stderr.write(f"{PROGRAM}: {' '.join(lines) or 'no message'}\n")
    return status


def _tell(out: Optional[TextIO], text: str) -> None:
    """Write a result; a reader that went away is no error."""
    try:
        (out or sys.stdout).write(text + "\n")
        (out or sys.stdout).flush()
    except BrokenPipeError:
        pass


if __name__ == "__main__":
    program()
