"""The admin APIs of a running node and proxy, against their OpenAPI documents.

What the documents guard takes the token and nothing else. With schemathesis installed (`pip install schemathesis==4.32.5`), it sends what
the documents allow and what they do not, and compares every answer with them; that takes minutes, so `make test` leaves it out.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
READY_SECONDS = 120
#: Per operation and phase: the documents are small.
EXAMPLES = "15"


def program(name):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [p for p in (target / profile / name for profile in ("debug", "release")) if p.exists()]
    return found[0] if found else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of one node and one proxy, as `cluster.json` describes it."""
    seamctl = program("seamctl")
    if not seamctl or not program("seam-node") or not program("seam-proxy"):
        pytest.skip("the programs are not built: make build")
    folder = tmp_path_factory.mktemp("api")
    up = subprocess.Popen([seamctl, "dev", "up", "--nodes", "1", "--proxies", "1", "--dir", folder], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (folder / "cluster.json").exists():
            assert up.poll() is None, f"seamctl dev up ended with {up.returncode}"
            assert time.monotonic() < deadline, "the cluster is not ready"
            time.sleep(0.05)
        yield json.loads((folder / "cluster.json").read_text())
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    assert code == 0, "node and proxy were still whole at the end"


def schemathesis(folder, admin, *options):
    command = [SCHEMATHESIS, "--no-color", "run", f"http://{admin}/openapi.json", "--checks", "all", "--max-examples", EXAMPLES,
               "--generation-deterministic", "--request-timeout", "30", "--warnings", "off", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed: it takes minutes")
@pytest.mark.parametrize("kind", ["node", "proxy"])
def test_api_keeps_to_its_document(cluster, kind, tmp_path):
    (member,) = cluster["nodes" if kind == "node" else "proxies"]
    # A node without its only member, or one that forms a cluster anew, would be another test.
    done = schemathesis(tmp_path, member["admin"], "--header", f"Authorization: Bearer {cluster['admin_token']}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    with urllib.request.urlopen(f"http://{member['admin']}/healthz", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("kind", ["node", "proxy"])
def test_nothing_changes_and_no_secret_is_told_without_the_token(cluster, kind):
    (member,) = cluster["nodes" if kind == "node" else "proxies"]
    with urllib.request.urlopen(f"http://{member['admin']}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    guarded = [(path, method) for path, methods in paths.items() for method in methods
               if method != "get" or methods[method].get("security")]
    assert len(guarded) >= (10 if kind == "node" else 2)
    for path, method in guarded:
        for token in (None, "wrong", cluster["admin_token"][:-1], cluster["admin_token"] + "0"):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            url = f"http://{member['admin']}{path.format(name='node-0', height=1)}"
            request = urllib.request.Request(url, method=method.upper(), headers=headers, data=b"{}" if method == "post" else None)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=10)
            assert refused.value.code == 401, (method, path, token)
