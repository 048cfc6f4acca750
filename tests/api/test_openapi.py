"""The admin APIs of a running node and proxy, against their OpenAPI documents.

schemathesis sends what the documents allow and what they do not, always the same (`schemathesis.toml`), with the token and without it, and
compares every answer with them. What the documents guard takes the token and nothing else.
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
#: For one run; it takes a fifth of that where nothing else runs.
RUN_SECONDS = 120


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
    command = [SCHEMATHESIS, "--config-file", Path(__file__).with_name("schemathesis.toml"), "--no-color", "run",
               f"http://{admin}/openapi.json", "--checks", "all", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS)


def answer_of(admin, path):
    with urllib.request.urlopen(f"http://{admin}{path}", timeout=10) as answer:
        return json.load(answer)


def standing(admin):
    """What no request here may change: who is in which cluster."""
    status = answer_of(admin, "/v1/status")
    return status["cluster_id"], sorted(node["name"] for node in status["nodes"]), status["quorum"]


@pytest.mark.parametrize("token", ["with the token", "without"])
@pytest.mark.parametrize("kind", ["node", "proxy"])
def test_api_keeps_to_its_document(cluster, kind, token, tmp_path):
    (member,) = cluster["nodes" if kind == "node" else "proxies"]
    before = standing(member["admin"])
    header = ["--header", f"Authorization: Bearer {cluster['admin_token']}"] if token == "with the token" else []
    done = schemathesis(tmp_path, member["admin"], *header)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    paths = answer_of(member["admin"], "/openapi.json")["paths"]
    # It leaves the document itself out.
    operations = sum(len(methods) for path, methods in paths.items() if path != "/openapi.json")
    assert f"Tested: {operations}\n" in done.stdout, done.stdout
    assert standing(member["admin"]) == before


def test_member_that_does_not_come_is_waited_for_and_refused(cluster):
    (node,) = cluster["nodes"]
    headers = {"Authorization": f"Bearer {cluster['admin_token']}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{node['admin']}/v1/members", headers=headers, data=b'{"name": "nobody"}')
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 409
    assert "does not vote yet" in json.load(refused.value)["error"]


@pytest.mark.parametrize("kind", ["node", "proxy"])
def test_nothing_changes_and_no_secret_is_told_without_the_token(cluster, kind):
    (member,) = cluster["nodes" if kind == "node" else "proxies"]
    paths = answer_of(member["admin"], "/openapi.json")["paths"]
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
