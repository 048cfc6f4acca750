"""What cargo's own benchmarks measure: lines `BENCH {"group", "name", "value", "unit"}` that they print.

`value` is the median where there are many; `p99`, and `ratio` with `ratio_to` for what it is compared with, may follow.
"""

from __future__ import annotations

import json
import subprocess
import sys

from .processes import ROOT
from .results import Table

# Title, method, command.
COMMANDS = {
    "rates": (
        "Templates, a new tip on its way, a share's verdict",
        "Bitcoin Core in process against `getblocktemplate` of a `bitcoind` of the same build over RPC, the same mempool; a new tip through the "
        "node's own job maker and session to the miner's socket; a share against the SHA-256 compressions that it needs.",
        ["cargo", "bench", "--locked", "--quiet", "--workspace", "--bench", "rates"],
    ),
}


def table(key: str, title: str, method: str, command: list[str]) -> Table:
    """Runs a benchmark; one row for each line it prints."""
    result = Table(key, title, method, [("value", "measured"), ("p99", "p99"), ("unit", "unit"), ("compared", "compared")])
    try:
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600).stdout
    except subprocess.SubprocessError as error:
        # An hour of other measurements is not lost for it; the document says what is missing.
        print(f"bench: {key} failed: {error}\n{(getattr(error, 'stderr', None) or '')[-4000:]}", file=sys.stderr, flush=True)
        result.notes.append(f"Not measured: `{' '.join(command)}` failed.")
        return result
    for line in output.splitlines():
        if line.startswith("BENCH "):
            row = json.loads(line.removeprefix("BENCH "))
            compared = f"{row['ratio']:.2f} × {row['ratio_to']}" if "ratio" in row else "–"
            result.add(row["name"], value=row["value"], p99=row.get("p99", "–"), unit=row["unit"], compared=compared)
    if not result.rows:
        raise RuntimeError(f"{' '.join(command)} measured nothing:\n{output}")
    return result
