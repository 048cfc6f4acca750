"""A server that plays a pool's admin port for the page: one scene at a time, chosen with `scene`.

By hand: `python3 fake.py [PORT] [SCENE]`, then open http://127.0.0.1:PORT/.
"""

import copy
import json
import math
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = Path(__file__).resolve().parent.parent
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
# What node and proxy send with the page: nothing from elsewhere, nothing inline.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'"


def _hash(n):
    return f"{n * 0x9E3779B97F4A7C15 % 2**160:040x}".rjust(64, "0")


def healthy(now, since):
    """Three nodes, two proxies, everything well."""
    sessions = [3411, 3290, 3377]
    wave = [n + int(40 * math.sin(now / 9 + i)) for i, n in enumerate(sessions)]
    nodes = [
        {"name": f"node-{i}", "role": "leader" if i == 1 else "follower", "up": True, "ready": True, "not_ready": [],
         "draining": False, "sessions": wave[i], "hashrate": 4.1e15 * (1 + 0.03 * math.sin(now / 7 + i)), "age": i * 0.4, "ring": [0.338, 0.327, 0.335][i], "height": 871234, "tip": _hash(871234),
         "lag": 0}
        for i in range(3)
    ]
    blocks = [
        {"height": 871230 - 17 * i, "hash": _hash(871230 - 17 * i), "time": now - 1900 - i * 9100,
         "status": ["pending", "confirmed", "confirmed", "orphaned", "mature"][min(i, 4)], "node": f"node-{i % 3}",
         "user": ["alice", "bob", "carol.long-name-of-a-mining-farm"][i % 3], "reward": 316250000 - 12345 * i,
         "shares": 1211000 - 31000 * i, "work": str(128839012831 * 10**9)}
        for i in range(8)
    ]
    return {
        "format": 1, "kind": "node", "name": "node-0", "version": "0.1.0", "time": now, "started": since - 86000,
        "chain": "mainnet", "ready": True, "not_ready": [], "draining": False, "cluster_id": "6f0c9d6e5a0b4a53",
        "leader": "node-1", "term": 7, "quorum": True, "voters": 3, "voters_up": 3, "margin": 1, "can_lose_one": True,
        "because": "3 of 3 voters are up and caught up; 2 are a quorum",
        "ledger": {"index": 184467 + int(now * 7) % 100000, "committed": 184467, "hash": "9f0a77c1d2e3" + "0" * 52},
        "nodes": nodes,
        "proxies": [
            {"name": "proxy-0", "up": True, "ready": True, "draining": False, "sessions": 5012, "held": 0},
            {"name": "proxy-1", "up": True, "ready": True, "draining": False, "sessions": 5066, "held": 0},
        ],
        "bitcoin": {"height": 871234, "headers": 871234, "tip": _hash(871234), "tip_time": now - 312,
                    "initial_download": False, "progress": 0.9999998, "peers": 10, "mempool": 48211},
        "sessions": wave[0], "hashrate": 4.1e15 * (1 + 0.03 * math.sin(now / 7)),
        "shares": {"accepted": 918221 + int((now - since) * 341), "rejected": {
            "stale": 2110 + int(now - since), "duplicate": 4, "low_difficulty": 310, "unauthorized": 12}},
        "round": {"shares": 771201 + int((now - since) * 1020), "work": "88123991231231000000", "users": 412},
        "blocks": blocks, "moves": None, "drains": [],
    }


def one_down(now, since):
    s = healthy(now, since)
    s["nodes"][2].update(up=False, ready=None, draining=None, sessions=None, hashrate=None, ring=0, lag=None, age=42.5)
    s["nodes"][0].update(sessions=5101, ring=0.505)
    s["nodes"][1].update(sessions=4977, ring=0.495)
    s.update(voters_up=2, margin=0, can_lose_one=False, sessions=5101,
             because="node-2 is gone: 2 of 3 voters are up and 2 are a quorum")
    return s


def no_quorum(now, since):
    s = one_down(now, since)
    s["nodes"][1].update(up=False, ready=None, draining=None, sessions=None, hashrate=None, ring=0, lag=None, age=9.1)
    s["nodes"][0].update(ready=False, not_ready=["quorum"], ring=0, role="follower")
    s.update(leader=None, quorum=False, voters_up=1, margin=-1, ready=False, not_ready=["quorum"],
             because="1 of 3 voters is up and 2 are a quorum: no share is acknowledged until another returns")
    for p in s["proxies"]:
        p["held"] = 2500
    return s


def drain(now, since):
    s = healthy(now, since)
    part = min(1.0, (now - since) / 20)
    left = int(3377 * (1 - part))
    s["nodes"][2].update(draining=True, ready=False, not_ready=["serving"], sessions=left, ring=0)
    s["nodes"][0].update(sessions=3411 + (3377 - left) // 2, ring=0.505)
    s["nodes"][1].update(sessions=3290 + (3377 - left) // 2, ring=0.495)
    s.update(can_lose_one=False, because="node-2 drains: the two that are left are just a quorum",
             drains=[{"name": "node-2", "started": since, "ended": now if part == 1 else None, "sessions": 3377,
                      "left": left, "recoverable": 0, "lost": 0},
                     {"name": "node-0", "started": since - 300, "ended": since - 294.2, "sessions": 3391, "left": 0,
                      "recoverable": 0, "lost": 0}])
    return s


def sync(now, since):
    s = healthy(now, since)
    s["nodes"][0].update(ready=False, not_ready=["chain"], sessions=0, ring=0, height=402113, role="learner", lag=51210)
    s["nodes"][1].update(ring=0.49)
    s["nodes"][2].update(ring=0.51)
    s.update(ready=False, not_ready=["chain"], sessions=0, hashrate=0, voters=2, voters_up=2, margin=0, can_lose_one=False,
             because="2 of 2 voters are up and both are needed; node-0 is still a learner")
    s["bitcoin"].update(height=402113 + int(now - since), headers=871234, initial_download=True,
                        progress=0.2214 + (now - since) * 1e-4, tip_time=1457000000)
    s["shares"] = {"accepted": 0, "rejected": {}}
    return s


def unformed(now, since):
    s = healthy(now, since)
    s.update(cluster_id=None, leader=None, term=None, quorum=False, voters=None, voters_up=None, margin=None,
             can_lose_one=False, because="the cluster has not been formed: run seamctl cluster init once",
             ledger=None, nodes=[], proxies=[], ready=False, not_ready=["joined"], round=None, blocks=[], sessions=0,
             hashrate=0, shares={"accepted": 0, "rejected": {}})
    return s


def proxy(now, since):
    s = healthy(now, since)
    s.update(kind="proxy", name="proxy-0", bitcoin=None, hashrate=None, round=None, blocks=[], ledger=None, term=None,
             sessions=5012, moves={"moved": 3377, "recoverable": 2, "lost": 0})
    s["proxies"] = s["proxies"][:1]
    for node in s["nodes"]:
        node.update(lag=None, sessions=node["sessions"] // 2)
    return s


def own_view(now, since):
    """What a node knows before the others have told it anything."""
    s = healthy(now, since)
    for node in s["nodes"][1:]:
        node.update(ready=None, draining=None, sessions=None, hashrate=None, ring=None, height=None, tip=None, age=None)
    s["nodes"][0].update(ring=None)
    return s


def silent(now, since):
    """A node that is connected and has not said for a while how it is."""
    s = healthy(now, since)
    s["nodes"][1].update(ready=None, draining=None, sessions=None, hashrate=None, ring=0, age=73.2)
    s["nodes"][0].update(ring=0.505)
    s["nodes"][2].update(ring=0.495)
    return s


def hostile(now, since):
    """Names that would be markup, seven nodes, and numbers at their ends."""
    s = healthy(now, since)
    s["name"] = "<img src=x onerror=alert(1)>"
    s["nodes"] = [dict(copy.deepcopy(s["nodes"][i % 3]), name=f"node-{i}<b>{'x' * 30}", ring=1 / 9, role="follower")
                  for i in range(9)]
    s["blocks"][0].update(user="<script>alert(1)</script>", work="9" * 60, reward=2_100_000_000_000_000)
    s["because"] = "x" * 300
    s["hashrate"] = 9.9e26
    return s


SCENES = {f.__name__: f for f in (healthy, one_down, no_quorum, drain, sync, unformed, proxy, own_view, silent, hostile)}


class Fake:
    """The server. `scene` and `broken` may be set while it runs."""

    def __init__(self, port=0, scene="healthy"):
        self.since = time.time()
        self.scene = scene
        self.broken = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def show(self, scene):
        self.since = time.time()
        self.scene = scene

    def history(self, now):
        """An hour, with ten minutes in which the process did not run."""
        make = SCENES[self.scene]
        samples = []
        for i in range(360):
            t = self.since - 3600 + 10 * i
            if 120 <= i < 180:
                continue
            s = make(t, self.since)
            up = 1 - 0.3 * math.exp(-((i - 250) ** 2) / 60)
            samples.append([t, int(s["sessions"] * up), s["hashrate"] and s["hashrate"] * up, s["shares"]["accepted"],
                            sum(s["shares"]["rejected"].values())])
        return {"interval": 10, "samples": samples}

    def answer(self, request):
        path = request.path.split("?")[0]
        now = time.time()
        if self.broken:
            return request.send_error(503)
        if path == "/v1/status":
            return self.send(request, "application/json", json.dumps(SCENES[self.scene](now, self.since)).encode())
        if path == "/v1/history":
            return self.send(request, "application/json", json.dumps(self.history(now)).encode())
        file = FILES / {"/": "index.html"}.get(path, path.lstrip("/"))
        if file.parent != FILES or file.suffix not in TYPES or not file.exists():
            return request.send_error(404)
        self.send(request, TYPES[file.suffix], file.read_bytes())

    @staticmethod
    def send(request, kind, body):
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Security-Policy", POLICY)
        request.end_headers()
        request.wfile.write(body)


if __name__ == "__main__":
    server = Fake(*(f(a) for f, a in zip((int, str), sys.argv[1:])))
    print(server.url)
    threading.Event().wait()
