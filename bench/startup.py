"""What does `assay --help` cost?

Measured: user and system CPU seconds of `assay --help`, the median of ten runs after one that fills the caches; and which
modules it imports. CPU time and not wall time: it hardly depends on what else the machine does.

Against: a bare `python -c pass` of the same interpreter, run in turn with it.

Fails where the CPU time is above the target, or where `--help` imports a library that only some commands need.

    python bench/startup.py
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

import lab

# Each is used by some command only, and takes 10 ms to seconds to import.
HEAVY = (
    "duckdb",
    "gguf",
    "mlx",
    "mlx_lm",
    "numpy",
    "peft",
    "pyarrow",
    "rich.progress",
    "ruamel.yaml",
    "safetensors",
    "torch",
    "transformers",
    "xllamacpp",
)

_LIST_MODULES = """
import contextlib, io, sys
sys.argv = ["assay", "--help"]
from assay.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(*sys.modules, sep="\\n")
"""


def cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        lab.fail(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def imported() -> frozenset[str]:
    """The modules that `assay --help` imports."""
    done = subprocess.run([sys.executable, "-c", _LIST_MODULES], capture_output=True, text=True)
    modules = frozenset(done.stdout.split())
    if "assay.cli" not in modules:
        lab.fail(f"the imported modules can't be listed: {done.stderr.strip()[-500:]}")
    return modules


def main() -> int:
    parser = argparse.ArgumentParser(description="The CPU time and the imports of assay --help.")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--target", type=float, default=0.25, help="the most CPU seconds that are fine [0.25]")
    arguments = parser.parse_args()
    help_command, bare_command = (lab.assay(), "--help"), (sys.executable, "-c", "pass")
    cpu_seconds(help_command), cpu_seconds(bare_command)
    pairs = [(cpu_seconds(help_command), cpu_seconds(bare_command)) for _ in range(arguments.repeats)]
    helps, bares = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    modules = imported()
    heavy = [name for name in HEAVY if name in modules]
    print(f"assay --help: {lab.spread(helps, ' s')} of CPU time, {len(modules)} modules")
    print(f"python -c pass: {lab.spread(bares, ' s')} of CPU time")
    print(f"ratio: {statistics.median(helps) / statistics.median(bares):.1f}")
    if heavy:
        print(f"MISSED: assay --help imports {', '.join(heavy)}, which only some commands need")
    else:
        print(f"none of {', '.join(HEAVY)} is imported")
    code = lab.verdict("CPU seconds of assay --help", statistics.median(helps), arguments.target, at_most=True)
    return 1 if heavy else code


if __name__ == "__main__":
    sys.exit(main())
