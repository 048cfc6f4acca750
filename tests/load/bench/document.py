"""docs/benchmarks.md and its plots."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path

from .processes import ROOT
from .results import Table

DOCS = ROOT / "docs"
# Read on pages light and dark: the plots bring their own ground.
COLOURS = {
    "one node": "#4477aa", "HAProxy, one node": "#ccbb44", "Seam's proxy, one node": "#66ccee",
    "three nodes": "#228833", "Seam's proxy, three nodes": "#ee6677", "one node, nothing synced": "#bbbbbb",
    "Seam's proxy, three nodes, nothing synced": "#888888",
}


def write(tables: list[Table], seconds: float) -> None:
    places = plots(tables)
    text = [
        "# Benchmarks", "",
        "Written by `make bench`, all in one run; figures of different runs and machines do not compare. The load generator, the "
        "proxies and all nodes share the machine's processors: what one uses the others lack.", "",
        *machine(), "", f"The run took {seconds / 60:.0f} minutes.", "",
    ]
    for table in tables:
        text.append(table.markdown())
        text += [f"![{table.title}](benchmarks/{name})\n" for name in places.get(table.key, [])]
    notes = DOCS / "benchmarks" / "notes.md"
    if notes.exists():
        text.append(notes.read_text())
    (DOCS / "benchmarks.md").write_text("\n".join(text))
    (DOCS / "benchmarks" / "results.json").write_text(
        json.dumps([table.json() for table in tables], indent=1) + "\n")


def machine() -> list[str]:
    def first(command: list[str]) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]

    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"- {date.today()}, commit `{first(['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'])}`",
        f"- {os.cpu_count()} processors ({model}), {memory:.0f} GiB, Linux {platform.release()}",
        f"- {first(['rustc', '--version'])}, {first(['/usr/sbin/haproxy', '-v'])}",
        f"- load before the run: {os.getloadavg()[0]:.2f}",
    ]


def plots(tables: list[Table]) -> dict[str, list[str]]:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    # The same figures give the same file.
    matplotlib.rcParams.update({
        "svg.hashsalt": "seam", "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False,
        "axes.spines.right": False, "figure.facecolor": "white", "axes.grid": True, "grid.alpha": 0.3})
    directory = DOCS / "benchmarks"
    directory.mkdir(exist_ok=True)
    by_key = {table.key: table for table in tables}
    drawn: dict[str, list[str]] = {}

    def save(key: str, name: str, figure) -> None:
        figure.tight_layout()
        figure.savefig(directory / name, metadata={"Date": None})
        pyplot.close(figure)
        drawn.setdefault(key, []).append(name)

    if (table := by_key.get("shares")) is not None:
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4))
        subjects = list(dict.fromkeys(row["subject"] for row in table.rows))
        for subject in subjects:
            rows = [row for row in table.rows if row["subject"] == subject and row["rate"] != "max"]
            axes[0].plot([row["accepted"] for row in rows], [row["p99"] for row in rows], "o-",
                         color=COLOURS[subject], label=subject)
        # The bars beside it name the colours: a legend would lie on the lines.
        axes[0].set(xlabel="accepted shares/s", ylabel="p99, ms", yscale="log", title="1,000 sessions, open loop",
                    xticks=[int(row["rate"]) for row in rows])
        peaks = {row["subject"]: row["accepted"] for row in table.rows if row["rate"] == "max"}
        axes[1].barh(list(peaks), list(peaks.values()), color=[COLOURS[subject] for subject in peaks])
        axes[1].invert_yaxis()
        axes[1].set(xlabel="accepted shares/s", title="saturated")
        save("shares", "shares.svg", figure)
    if (table := by_key.get("growth")) is not None:
        figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
        sessions = [row["sessions"] for row in table.rows]
        for key, label, colour in (("node_us", "nodes", "#228833"), ("proxy_us", "proxy", "#ee6677")):
            axes[0].plot(sessions, [row[key] for row in table.rows], "o-", label=label, color=colour)
        axes[0].set(xlabel="sessions", ylabel="CPU µs per share", title="2,000 shares/s", ylim=(0, None))
        for key, label, colour in (("node_kb", "nodes", "#228833"), ("proxy_kb", "proxy", "#ee6677")):
            axes[1].plot(sessions, [row[key] for row in table.rows], "o-", label=label, color=colour)
        axes[1].set(xlabel="sessions", ylabel="kB per session", title="memory", ylim=(0, None))
        for axis in axes:
            axis.legend()
        save("growth", "growth.svg", figure)
    if (table := by_key.get("idle")) is not None:
        figure, axis = pyplot.subplots(figsize=(8, 4))
        labels = [f"{row['subject']}\n{row['sessions']:,.0f}" for row in table.rows]
        axis.barh(labels, [row["spread50"] for row in table.rows],
                  color=[COLOURS[row["subject"]] for row in table.rows])
        axis.invert_yaxis()
        axis.tick_params(axis="y", labelsize=8)
        axis.set(xlabel="first → last session, ms", title="a new tip")
        save("idle", "notify.svg", figure)
    if (table := by_key.get("failover")) is not None:
        figure, axis = pyplot.subplots(figsize=(8, 3))
        axis.barh([row["subject"] for row in table.rows], [row["silence"] for row in table.rows], color="#ee6677")
        axis.invert_yaxis()
        axis.set(xlabel="longest silence of any of 5,000 sessions, ms", title="what miners notice")
        save("failover", "failover.svg", figure)
    return drawn
