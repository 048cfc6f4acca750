"""What cargo's own benchmarks measure: lines `BENCH {"group", "name", "value", "unit"}` that they print."""

from __future__ import annotations

import json
import subprocess

from .processes import ROOT
from .results import Table

# Title, method, command.
COMMANDS = {
    "template": (
        "Templates, and a new tip on its way",
        "Bitcoin Core in process against `getblocktemplate` of a `bitcoind` of the same build over RPC, the same mempool.",
        ["cargo", "bench", "--locked", "--quiet", "-p", "seam-bitcoin-core", "--bench", "template"],
    ),
}


def table(key: str, title: str, method: str, command: list[str]) -> Table:
    """Runs a benchmark; one row for each line it prints."""
    result = Table(key, title, method, [("value", "measured"), ("unit", "unit")])
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600).stdout
    for line in output.splitlines():
        if line.startswith("BENCH "):
            row = json.loads(line.removeprefix("BENCH "))
            result.add(row["name"], value=row["value"], unit=row["unit"])
    if not result.rows:
        raise RuntimeError(f"{' '.join(command)} measured nothing:\n{output}")
    return result
