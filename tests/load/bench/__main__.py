"""Runs every comparison and writes docs/benchmarks.md: `scripts/bench`."""

import argparse
import sys
import time

from . import document, rust, scenarios



def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = [run.__name__ for run in scenarios.ALL]
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", choices=[*names, *rust.COMMANDS],
                        help=f"print these only and write nothing: {', '.join([*rust.COMMANDS, *names])}")
    options = parser.parse_args()
    begin = time.monotonic()
    tables = []
    for name, (title, method, command) in rust.COMMANDS.items():
        if not options.only or name in options.only:
            print(f"bench: {name}", flush=True)
            tables.append(rust.table(name, title, method, command))
    for run in scenarios.ALL:
        if not options.only or run.__name__ in options.only:
            print(f"bench: {run.__name__} ({time.monotonic() - begin:.0f} s)", flush=True)
            tables.append(run())
    if options.only:
        print()
        for table in tables:
            print(table.markdown())
    else:
        document.write(tables, time.monotonic() - begin)
        print("bench: docs/benchmarks.md and docs/benchmarks/ are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
