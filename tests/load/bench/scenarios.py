"""The scenarios, each a table."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .peer import Peer, Solver
from .processes import MEMORY, Cluster, Load, Server, Usage, connections, wait
from .results import Table

RATES = (2_000, 10_000, 20_000, "max")
SECONDS = 6.0

ALONE = "one node"
HAPROXY = "HAProxy, one node"
PROXY = "Seam's proxy, one node"
UNSYNCED = "one node, nothing synced"
THREE = "three nodes"
WHOLE = "Seam's proxy, three nodes"
WHOLE_UNSYNCED = "Seam's proxy, three nodes, nothing synced"


# name: nodes, how miners reach them, where the files are
SUBJECTS = {
    ALONE: (1, Cluster.direct, None),
    UNSYNCED: (1, Cluster.direct, MEMORY),
    HAPROXY: (1, Cluster.behind_haproxy, None),
    PROXY: (1, Cluster.proxied, None),
    THREE: (3, Cluster.direct, None),
    WHOLE: (3, Cluster.proxied, None),
    WHOLE_UNSYNCED: (3, Cluster.proxied, MEMORY),
}
SYNCED = [name for name, (_, _, parent) in SUBJECTS.items() if parent is None]


@contextmanager
def fresh(subject: str, chain: str = "devnet") -> Iterator[tuple[Cluster, Server]]:
    """A cluster of its own, for what memory remembers."""
    nodes, reach, parent = SUBJECTS[subject]
    with Cluster(nodes, 1, chain=chain, parent=parent) as cluster:
        yield cluster, reach(cluster, subject)


def disk() -> Table:
    table = Table(
        "disk", "The disk",
        "4 KiB appended to a file and `fdatasync`, 2,000 times, in the directory the clusters below use: what one acknowledged "
        "batch has to wait for at least, on each node.",
        [("p50", "p50 ms"), ("p99", "p99 ms")])
    times = []
    with tempfile.NamedTemporaryFile(prefix="seam-bench-") as file:
        block = os.urandom(4096)
        for _ in range(2_000):
            os.write(file.fileno(), block)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    table.add("one fdatasync", p50=statistics.median(times), p99=times[len(times) * 99 // 100])
    return table


def shares() -> Table:
    table = Table(
        "shares", "Shares: 1,000 sessions",
        f"Open loop for {SECONDS:.0f} s at each rate, latency from when a share was *due* to its answer read; `max` keeps eight "
        "submits of each session unanswered. Every share is verified, replicated where there are three nodes, and on disk "
        "(`fdatasync`) before its answer, but where nothing is synced: there all files are in memory. CPU is per accepted share, of the "
        "processes named. All share two cores with the generator. A fresh cluster for each subject: what its ledger remembers of the "
        "rows before makes the last ones slower.",
        [("rate", "asked, shares/s"), ("accepted", "accepted/s"), ("p50", "p50 ms"), ("p99", "p99 ms"),
         ("node_us", "nodes, CPU µs"), ("proxy_us", "proxy, CPU µs"), ("generator_us", "generator, CPU µs"),
         ("other", "not accepted")])
    for subject in SUBJECTS:
        with fresh(subject) as (_, server):
            for rate in RATES:
                load_row(table, server, 1_000, rate, str(rate))
    return table


def load_row(table: Table, server: Server, sessions: int, rate: float | str, label: str, **more: float) -> None:
    load = Load(server, sessions, rate=rate, seconds=SECONDS)
    all_there(server, sessions)
    cpu = steady_cpu(server, load)
    report = load.join()
    micros = {role: used / max(report["accepted_per_sec"], 1) * 1e6 for role, used in cpu.items()}
    table.add(
        server.name, sessions=sessions, rate=label, accepted=report["accepted_per_sec"], p50=report["submit"]["p50"], p99=report["submit"]["p99"],
        node_us=micros["node"], proxy_us=micros.get("proxy", 0), generator_us=micros["generator"],
        other=report["submitted"] - report["accepted"] + report["skipped"], **more)


def all_there(server: Server, sessions: int) -> None:
    """Waits for connections, on the processes that miners connect to."""
    doors = server.pids.get("proxy", server.pids["node"])
    wait("the sessions", lambda: sum(connections(pid) for pid in doors) >= sessions)


def steady_cpu(server: Server, load: Load) -> dict[str, float]:
    """CPU seconds a second by role, while everyone works: neither those who join nor those who leave are in it."""
    time.sleep(1)
    begin, before = time.monotonic(), usage(server, load)
    time.sleep(SECONDS - 2)
    seconds, after = time.monotonic() - begin, usage(server, load)
    return {role: (after[role].cpu - before[role].cpu) / seconds for role in after}


def usage(server: Server, load: Load) -> dict[str, Usage]:
    return server.usage() | {"generator": Usage.of([load.process.pid])}


def joins() -> Table:
    table = Table(
        "joins", "Sessions that join",
        "Sessions connect evenly over the time given; a join is from when its connection was due to the answer of "
        "`mining.subscribe`, the way to work until `mining.authorize` is answered and a job is there.",
        [("sessions", "sessions"), ("over", "over s"), ("subscribe50", "subscribe p50 ms"), ("subscribe99", "subscribe p99 ms"),
         ("join99", "join p99 ms"), ("work99", "to work p99 ms"), ("failed", "failed")])
    for subject in SYNCED:
        with fresh(subject) as (_, server):
            for sessions, ramp in ((1_000, 1.0), (5_000, 2.0)):
                report = Load(server, sessions, ramp=ramp, seconds=0.5).join()
                table.add(
                    subject, sessions=sessions, over=ramp, subscribe50=report["subscribe"]["p50"],
                    subscribe99=report["subscribe"]["p99"], join99=report["join"]["p99"], work99=report["work"]["p99"],
                    failed=sessions - report["ready"] + report["drops"])
    return table


def idle() -> Table:
    table = Table(
        "idle", "Idle sessions: memory, and a new tip",
        "A fresh cluster on regtest for each row. Memory is anonymous resident memory of the processes with the sessions connected and "
        "authorized, less that before, per session. Then ten new tips: first to last session that has read the `mining.notify`. "
        "HAProxy has no row of 10,000: it needs two files a session, and a process here may open 20,000.",
        [("sessions", "sessions"), ("node_kb", "nodes, kB/session"), ("proxy_kb", "proxy, kB/session"),
         ("spread50", "notify first→last p50 ms"), ("spread_max", "longest ms"), ("tips", "tips seen")])
    for subject in SYNCED:
        for sessions in (5_000,) if subject == HAPROXY else (5_000, 10_000):
            with fresh(subject, "regtest") as (cluster, server):
                empty = server.usage()
                load = Load(server, sessions, ramp=sessions / 2_500, seconds=12)
                grown = memory_of_each(server, sessions, sessions, empty)
                for _ in range(10):
                    cluster.new_tip()
                    time.sleep(0.5)
                report = load.join()
                table.add(
                    subject, sessions=sessions, node_kb=grown["node"], proxy_kb=grown.get("proxy", 0),
                    spread50=report["tip_spread"]["p50"], spread_max=report["tip_spread"]["max"],
                    tips=report["tip_spread"]["count"])
    return table


def growth() -> Table:
    table = Table(
        "growth", "How cost grows with sessions",
        f"{WHOLE}. CPU: 2,000 shares/s, a fresh cluster for each row; the same work spread over more sessions. Memory: one cluster "
        "that 500 sessions are connected to already; what each row's further sessions add, per session, once they have their job.",
        [("sessions", "sessions"), ("rate", "asked, shares/s"), ("accepted", "accepted/s"), ("p50", "p50 ms"), ("p99", "p99 ms"),
         ("node_us", "nodes, CPU µs/share"), ("proxy_us", "proxy, CPU µs/share"),
         ("generator_us", "generator, CPU µs/share"), ("node_kb", "nodes, kB/further session"),
         ("proxy_kb", "proxy, kB/further session"), ("other", "not accepted")])
    steps = (1_000, 2_000, 4_000, 8_000, 16_000)
    added = memory_of_further(500, steps)
    for sessions in steps:
        with fresh(WHOLE) as (_, server):
            load_row(table, server, sessions, 2_000, "2000",
                     node_kb=added[sessions]["node"], proxy_kb=added[sessions]["proxy"])
    return table


def memory_of_further(first: int, steps: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """kB by role that each session adds to a cluster that grows from `first` sessions in `steps`."""
    added, here = {}, 0
    with fresh(WHOLE) as (_, server), ExitStack() as loads:
        for sessions in (first, *steps):
            more = sessions - here
            before = server.usage()
            load = Load(server, more, ramp=more / 2_500, seconds=300)
            loads.callback(load.stop)
            added[sessions] = memory_of_each(server, sessions, more, before)
            here = sessions
    return added


def memory_of_each(server: Server, sessions: int, new: int, before: dict[str, Usage]) -> dict[str, float]:
    """kB by role that each new session takes, once all are there: what is more than before they came."""
    all_there(server, sessions)
    # Everyone has its job: nothing is left in the buffers of the handshake.
    time.sleep(2)
    after = server.usage()
    return {role: (after[role].resident - before[role].resident) / new / 1e3 for role in after}


def failover() -> Table:
    table = Table(
        "failover", "5,000 sessions, 1,000 shares/s, and something happens",
        "Three nodes, two proxies. Silence is the longest time that any session waited without an answer while a submit was "
        "outstanding; without any event it is the longest wait of a quiet cluster.",
        [("silence", "longest silence ms"), ("p99", "p99 ms"), ("drops", "dropped"), ("rejected", "rejected"),
         ("unanswered", "unanswered"), ("submitted", "submitted")])

    def follower(cluster: Cluster) -> dict:
        leader = cluster.leader()
        return next(node for node in cluster.members["nodes"] if node["name"] != leader)

    def leader(cluster: Cluster) -> dict:
        name = cluster.leader()
        return next(node for node in cluster.members["nodes"] if node["name"] == name)

    events = {
        "nothing": lambda cluster: None,
        "a follower drained": lambda cluster: cluster.ctl("drain", follower(cluster)["name"]),
        "a follower killed": lambda cluster: os.kill(follower(cluster)["pid"], 9),
        "the leader killed": lambda cluster: os.kill(leader(cluster)["pid"], 9),
        "the leader stopped (SIGSTOP)": lambda cluster: os.kill(leader(cluster)["pid"], 19),
    }
    for name, event in events.items():
        with Cluster(3, 2) as cluster:
            server = cluster.proxied(name)
            load = Load(server, 5_000, rate=1_000, ramp=2.0, seconds=10)
            all_there(server, 5_000)
            time.sleep(3)
            event(cluster)
            report = load.join()
            for node in cluster.members["nodes"]:
                try:
                    os.kill(node["pid"], 18)
                except ProcessLookupError:
                    pass
            table.add(
                name, silence=report["silence"]["max"], p99=report["submit"]["p99"], drops=report["drops"],
                rejected=sum(report["rejected"].values()), unanswered=report["unanswered"], submitted=report["submitted"])
            if report["rejected"]:
                table.notes.append(f"{name}: rejected {report['rejected']}.")
    return table


def silent() -> Table:
    table = Table(
        "silent", "5,000 sessions, 1,000 shares/s, and some that do not read",
        f"{PROXY}. In every second run one session of a hundred stops reading once it has work. What the others see: from when a share "
        "was due to its answer, and a new tip's first to last session. Runs in turn, a fresh cluster for each.",
        [("silent", "silent sessions"), ("p50", "p50 ms"), ("p99", "p99 ms"), ("spread50", "notify first→last p50 ms"),
         ("other", "not accepted")])
    for _ in range(3):
        for percent in (0, 1):
            with Cluster(1, 1) as cluster:
                cluster.new_tip()
                server = cluster.proxied(PROXY)
                load = Load(server, 5_000, rate=1_000, ramp=2.0, seconds=10, options=("--slow-percent", str(percent)))
                all_there(server, 5_000)
                time.sleep(3)
                for _ in range(6):
                    cluster.other_tip()
                    time.sleep(1)
                report = load.join()
                table.add(
                    PROXY, silent=5_000 * percent // 100, p50=report["submit"]["p50"], p99=report["submit"]["p99"],
                    spread50=report["tip_spread"]["p50"], other=report["submitted"] - report["accepted"])
    return table


def blocks() -> Table:
    table = Table(
        "blocks", "A solved block on its way",
        "Regtest, one miner; a separate `bitcoind` of the same build is connected to the first node by P2P. From the solving submit "
        "written to the peer's log line of the new header, and to the miner's answer. 30 blocks.",
        [("peer50", "peer has heard, p50 ms"), ("peer_max", "longest ms"), ("answer50", "answered, p50 ms"),
         ("answer_max", "longest ms")])
    for subject in (ALONE, WHOLE):
        with fresh(subject, "regtest") as (cluster, server), Peer(cluster) as peer:
            solver = Solver(server.address.split(",")[0])
            heard, answered = [], []
            for _ in range(30):
                sent, done, block = solver.solve()
                heard.append((peer.heard(block) - sent) * 1e3)
                answered.append((done - sent) * 1e3)
            table.add(subject, peer50=statistics.median(heard), peer_max=max(heard),
                      answer50=statistics.median(answered), answer_max=max(answered))
    return table


ALL = (disk, shares, joins, idle, growth, failover, silent, blocks)
