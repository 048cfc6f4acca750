"""A solved block as its finder and as a Bitcoin peer see it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

from .processes import ROOT, Cluster, free_port, wait

# Regtest's: every second hash is a block.
BLOCK_TARGET = 0x7FFFFF << (8 * (0x20 - 3))


def bitcoind() -> Path:
    """Core's own program, built beside the library."""
    place = Path(os.environ.get("SEAM_BITCOIN_BUILD_DIR") or ROOT / "target" / "bitcoin-core")
    return max(place.glob("*/bin/bitcoind"), key=lambda path: path.stat().st_mtime)


class Peer:
    """A `bitcoind` connected to a cluster's first node by P2P. A context manager."""

    def __init__(self, cluster: Cluster) -> None:
        self.node = cluster.members["nodes"][0]["p2p"]

    def __enter__(self) -> Peer:
        self.directory = tempfile.TemporaryDirectory(prefix="seam-bench-")
        self.log = Path(self.directory.name) / "regtest" / "debug.log"
        self.process = subprocess.Popen(
            [bitcoind(), "-regtest", f"-datadir={self.directory.name}", f"-connect={self.node}", "-listen=0",
             "-server=0", "-logtimemicros", "-debug=net", f"-port={free_port()}"], stdout=subprocess.DEVNULL)
        wait("the peer", lambda: self.log.exists() and "New outbound-full-relay" in self.log.read_text()
             or self.log.exists() and "New manual" in self.log.read_text())
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.directory.cleanup()

    def heard(self, block: str) -> float:
        """When its log first spoke of a block's header, in Unix seconds."""
        line = re.compile(rf"^(\S+)Z .*(?:Saw new .*header hash={block}|UpdateTip: new best={block})", re.M)
        found = wait(f"the peer to hear of {block}", lambda: line.search(self.log.read_text()), step=0.01)
        return datetime.fromisoformat(found[1] + "+00:00").timestamp()


class Solver:
    """One miner on regtest, whose every submit is a block."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.settimeout(60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.job: list | None = None
        self.previous = None
        self.counter = 0
        self.send(1, "mining.subscribe", ["bench"])
        result = self.answer(1)["result"]
        self.extranonce1, self.nonce2_size = bytes.fromhex(result[1]), result[2]
        self.send(2, "mining.authorize", ["bench", "x"])
        self.answer(2)

    def send(self, number: int, method: str, params: list) -> None:
        self.socket.sendall(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")

    def read(self) -> dict:
        message = json.loads(self.lines.readline())
        if message.get("method") == "mining.notify":
            self.job = message["params"]
        return message

    def answer(self, number: int) -> dict:
        while True:
            message = self.read()
            if message.get("id") == number and "method" not in message:
                return message

    def solve(self) -> tuple[float, float, str]:
        """Solves a block: when its submit was written, when it was answered (Unix seconds), its hash."""
        while self.job is None or self.job[1] == self.previous:
            self.read()
        job, previous, begin, end, branch, version, nbits, ntime, _ = self.job
        self.counter += 1
        nonce2 = self.counter.to_bytes(self.nonce2_size, "big")
        root = sha256d(bytes.fromhex(begin) + self.extranonce1 + nonce2 + bytes.fromhex(end))
        for sibling in branch:
            root = sha256d(root + bytes.fromhex(sibling))
        words = bytes.fromhex(previous)
        swapped = b"".join(words[i:i + 4][::-1] for i in range(0, 32, 4))
        head = bytes.fromhex(version)[::-1] + swapped + root + bytes.fromhex(ntime)[::-1] + bytes.fromhex(nbits)[::-1]
        nonce = 0
        while int.from_bytes(found := sha256d(head + nonce.to_bytes(4, "little")), "little") > BLOCK_TARGET:
            nonce += 1
        self.previous = previous
        sent = time.time()
        self.send(3, "mining.submit", ["bench", job, nonce2.hex(), ntime, f"{nonce:08x}"])
        answer = self.answer(3)
        done = time.time()
        if answer["result"] is not True:
            raise RuntimeError(f"the block was refused: {answer}")
        return sent, done, found[::-1].hex()


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
