"""`python -m jobs.benchmark.gpu --out DIR [--smoke] [key=value]...`: the benchmark without the `ensemble` command.

For a machine that has a GPU and no Ray, where this project is not installed.
"""

import argparse
import sys
from pathlib import Path

from ensemble.errors import ConfigError
from jobs.benchmark.gpu.flow import benchmark_gpu
from jobs.cli.app import EXIT_FAILED, EXIT_USAGE, open_console


def main() -> int:
    """Run the benchmark, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmark.gpu")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="The folder for gpu.json."
    )
    parser.add_argument(
        "--smoke", action="store_true", help="Run the same code on a CPU with tiny networks."
    )
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="Settings, such as parts=[correctness]."
    )
    arguments = parser.parse_args()
    words = [f"out={arguments.out / 'gpu.json'}", *arguments.words]
    try:
        report = benchmark_gpu(words, open_console(), arguments.smoke)
    except ConfigError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0 if report.is_met else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
