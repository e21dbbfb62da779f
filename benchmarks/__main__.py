"""All benchmarks at a small size, in one table of ratios within one run: ``python benchmarks [NAME ...]``."""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import math
import time
from importlib import import_module
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "timing")


def main():
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}")
    names = options.parse_args().names
    if unknown := set(names) - set(NAMES):
        options.error(f"unknown benchmark {', '.join(sorted(unknown))}")
    began = time.monotonic()
    for name in names or NAMES:
        start = time.monotonic()
        for row in import_module(name).small():
            error = "" if math.isnan(row.error) else f" ± {row.error:.2g}"
            print(f"{name:16} {row.what:55} {row.value:9.3g}{error}", flush=True)
        print(f"{name:16} took {time.monotonic() - start:.0f} s", flush=True)
    print(f"all in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
