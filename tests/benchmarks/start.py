"""Cold start of the package and of the command line, beside a bare interpreter. Usage: python tests/benchmarks/start.py"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import porting_check": ["-c", "import porting_check"],
    "porting-check --help": ["-m", "porting_check.cli", "--help"],
}


def main(runs: int = 9) -> None:
    """Measure in turns, print the medians and the ratio to a bare interpreter."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - start)
    bare = statistics.median(taken["python -c pass"])
    for name, times in taken.items():
        print(
            f"{name:24s} {statistics.median(times):6.3f} s   {statistics.median(times) / bare:5.1f} times a bare interpreter"
        )


if __name__ == "__main__":
    main()
