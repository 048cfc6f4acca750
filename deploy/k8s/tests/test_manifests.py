"""What the manifests promise to each other: names, ports, labels, times, rights."""

import json
import re
import shutil
import subprocess

import kubernetes_validate
import pytest

from manifests import CUSTOM, ROOT, build, container, labels, pod, ports, secrets, selects
from render import RENDERED, rendered

VERSIONS = ("1.32", "1.34", "1.36")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_strictly(m, version):
    for o in m.objects + secrets(m.namespace, m.has_cert_manager):
        if o["kind"] not in CUSTOM:
            kubernetes_validate.validate(o, version, strict=True)


def test_every_object_has_an_owner_and_a_place(m):
    seen = set()
    for o in m.objects:
        key = (o["kind"], o["metadata"]["name"])
        assert key not in seen, f"{key} is there twice"
        seen.add(key)
        assert o["metadata"]["labels"]["app.kubernetes.io/part-of"] == "seam", key
        if o["kind"] != "Namespace":
            assert o["metadata"]["namespace"] == m.namespace, key


# ---- Selectors, ports, names ----


def test_workload_selectors_take_their_own_pods_only(m):
    for w in m.workloads:
        if "selector" in w["spec"]:
            taken = [x["metadata"]["name"] for x in m.workloads if selects(w["spec"]["selector"], labels(x))]
            assert taken == [w["metadata"]["name"]]


def test_services_select_one_workload_and_name_its_ports(m):
    for s in m.of_kind("Service"):
        taken = [w for w in m.workloads if s["spec"]["selector"].items() <= labels(w).items()]
        assert len(taken) == 1, s["metadata"]["name"]
        for port in s["spec"]["ports"]:
            assert ports(taken[0])[port["targetPort"]] == port["port"], s["metadata"]["name"]


def test_headless_service_is_the_statefulsets_and_publishes_unready_nodes(m):
    service = m.named("Service", m.node["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    client = m.named("Service", "seam-node-client")
    assert not client["spec"].get("publishNotReadyAddresses")


def test_network_policies_select_pods_and_name_their_ports(m):
    everything = {}
    for w in m.workloads:
        everything |= ports(w)
    for policy in m.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        name = policy["metadata"]["name"]
        taken = [w for w in m.workloads if selects(spec["podSelector"], labels(w))]
        assert taken, f"{name} selects nothing"
        for rule in spec.get("ingress", []):
            for port in rule.get("ports", []):
                assert all(port["port"] in ports(w) for w in taken), f"{name}: {port}"
        for rule in spec.get("ingress", []) + spec.get("egress", []):
            for peer in rule.get("from", []) + rule.get("to", []):
                if "podSelector" in peer:
                    targets = [w for w in m.workloads if selects(peer["podSelector"], labels(w))]
                    assert targets, f"{name}: {peer} selects nothing"
        for rule in spec.get("egress", []):
            for port in rule.get("ports", []):
                assert isinstance(port["port"], int) or port["port"] in everything, f"{name}: {port}"


def allowed(m, source, target, port):
    """Whether the policies let pods of `source` reach `port` (a name) of `target`."""
    def any_rule(workload, kind, other, peers):
        for policy in m.of_kind("NetworkPolicy"):
            if not selects(policy["spec"]["podSelector"], labels(workload)):
                continue
            for rule in policy["spec"].get(kind, []):
                if rule.get("ports") and port not in [p["port"] for p in rule["ports"]]:
                    continue
                if not rule.get(peers):
                    return True
                for peer in rule[peers]:
                    if "podSelector" in peer and other and selects(peer["podSelector"], labels(other)):
                        return True
                    if "namespaceSelector" in peer and "podSelector" not in peer and peer["namespaceSelector"] == {}:
                        return True
        return False
    return any_rule(target, "ingress", source, "from") and (source is None or any_rule(source, "egress", target, "to"))


def test_network_policies_allow_what_is_needed_and_nothing_else(m):
    deny = m.named("NetworkPolicy", "deny-all")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    init = m.named("Job", "seam-init")
    for source, target, port, wanted in [
        (m.node, m.node, "cluster", True),
        (m.proxy, m.node, "cluster", True),
        (init, m.node, "admin", True),
        (None, m.proxy, "stratum", True),
        (None, m.proxy, "stratum-tls", True),
        (None, m.node, "p2p", True),
        (None, m.node, "cluster", False),
        (None, m.node, "admin", False),
        (None, m.proxy, "admin", False),
        (m.proxy, m.node, "admin", False),
        (m.node, m.proxy, "admin", False),
        (init, m.node, "cluster", False),
    ]:
        assert allowed(m, source, target, port) is wanted, (source and source["metadata"]["name"], target["metadata"]["name"], port)


def test_configured_ports_are_the_containers(m):
    node, proxy = m.config(m.node), m.config(m.proxy)
    port = lambda address: int(address.rsplit(":", 1)[1])
    assert {
        "stratum": port(node["stratum"]["listen"]),
        "cluster": port(node["cluster"]["listen"]),
        "admin": port(node["admin"]["listen"]),
        "p2p": 8333,
    } == ports(m.node)
    assert {
        "stratum": port(proxy["stratum"]["listen"]),
        "stratum-tls": port(proxy["stratum"]["listen_tls"]),
        "admin": port(proxy["admin"]["listen"]),
    } == ports(m.proxy)
    for address in [node["stratum"]["listen"], node["cluster"]["listen"], node["admin"]["listen"], proxy["admin"]["listen"]]:
        assert address.startswith("0.0.0.0:"), "a probe or a peer could not reach it"
    # Regtest's own port is another: it has to be told.
    if node["bitcoin"]["chain"] != "mainnet":
        assert "-bind=0.0.0.0:8333" in node["bitcoin"]["options"].split()


def test_seeds_and_advertised_names_are_the_pods(m):
    headless = m.node["spec"]["serviceName"]
    pods = [f"seam-node-{i}.{headless}:7333" for i in range(m.node["spec"]["replicas"])]
    for workload in (m.node, m.proxy):
        assert set(pods) <= set(m.config(workload)["cluster"]["seeds"])
    assert m.config(m.node)["cluster"]["advertise"] == f"$(POD_NAME).{headless}:7333"


def test_variables_that_are_used_are_defined_before(m):
    for w in m.workloads:
        defined = set()
        for variable in container(w).get("env", []):
            used = set(re.findall(r"\$\((\w+)\)", variable.get("value", "")))
            assert used <= defined, f"{variable['name']} uses {used - defined}"
            defined.add(variable["name"])


def test_service_links_are_off_because_they_would_look_like_settings(m):
    for w in m.workloads:
        assert pod(w)["enableServiceLinks"] is False


# ---- Probes ----


def known_paths(program):
    """What the program's own API document says, and ARCHITECTURE.md where the program has none yet."""
    for place in (ROOT / program / "src" / "admin" / "openapi.json", ROOT / program / "src" / "openapi.json"):
        paths = json.loads(place.read_text()).get("paths") if place.exists() else None
        if paths:
            return {path for path, methods in paths.items() if "get" in methods}
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text[text.index("## Admin HTTP"):]
    return set(re.findall(r"/[\w/{}.]+", section.replace("\n", " ")))


def test_probe_paths_exist_in_the_api(m):
    for w, program in ((m.node, "node"), (m.proxy, "proxy")):
        c = container(w)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            get = c[probe]["httpGet"]
            assert get["path"] in known_paths(program)
            assert get["port"] == "admin" and "admin" in ports(w)
            assert c[probe]["timeoutSeconds"] <= c[probe]["periodSeconds"] or probe == "startupProbe"
        assert c["readinessProbe"]["httpGet"]["path"] == "/readyz"
        # Liveness depends on neither quorum nor sync: /readyz would kill a node for what a restart cannot mend.
        assert c["livenessProbe"]["httpGet"]["path"] == c["startupProbe"]["httpGet"]["path"] == "/healthz"


# ---- Stopping ----


def seconds(command, option):
    (found,) = re.findall(rf"{option}=(\d+)", " ".join(command))
    return int(found)


def test_grace_period_is_longer_than_the_drain(m):
    for w, flush in ((m.node, 60), (m.proxy, 5)):
        grace = pod(w)["terminationGracePeriodSeconds"]
        stop = container(w)["lifecycle"]["preStop"]["exec"]["command"]
        pause = sum(map(int, re.findall(r"sleep (\d+)", " ".join(stop))))
        assert pause + seconds(stop, "--timeout") + flush <= grace
    assert pod(m.node)["terminationGracePeriodSeconds"] == 300
    assert int(m.config(m.node)["limits"]["drain_seconds"]) + 60 <= 300


def test_pre_stop_drains_the_pods_own_admin_port(m):
    for w in (m.node, m.proxy):
        stop = " ".join(container(w)["lifecycle"]["preStop"]["exec"]["command"])
        assert f"--admin=127.0.0.1:{ports(w)['admin']}" in stop and " drain " in stop
        assert f"--token-file={m.config(w)['admin']['token_file']}" in stop


def test_disruption_budgets_fit_the_replicas(m):
    budgets = m.of_kind("PodDisruptionBudget")
    for w in (m.node, m.proxy):
        own = [b for b in budgets if selects(b["spec"]["selector"], labels(w))]
        assert len(own) == 1
        assert own[0]["spec"]["maxUnavailable"] == 1
        assert w["spec"]["replicas"] >= 2
    replicas = m.node["spec"]["replicas"]
    assert replicas % 2 == 1, "an even number of voters loses no more than one less"
    assert replicas - 1 >= replicas // 2 + 1, "one eviction would cost the quorum"


def test_statefulset_starts_together_and_keeps_its_disks(m):
    spec = m.node["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    mounts = {v["name"]: v["mountPath"] for v in container(m.node)["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == m.config(m.node)["data_dir"]


def test_proxies_are_replaced_without_a_gap(m):
    update = m.proxy["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_are_spread(m):
    for w in (m.node, m.proxy):
        keys = {c["topologyKey"] for c in pod(w)["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for c in pod(w)["topologySpreadConstraints"]:
            assert selects(c["labelSelector"], labels(w))
    if m.variant == "mainnet":
        assert pod(m.node)["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"


# ---- Files ----


def test_every_mounted_secret_and_config_map_exists_with_its_keys(m):
    known = m.secret_keys()
    files = {}
    for w in m.workloads:
        volumes = {v["name"]: v for v in pod(w)["volumes"]}
        claims = {c["metadata"]["name"] for c in w["spec"].get("volumeClaimTemplates", [])}
        mounted = set()
        for mount in container(w)["volumeMounts"]:
            assert "subPath" not in mount and "subPathExpr" not in mount, "would never be renewed"
            mounted.add(mount["name"])
            volume = volumes.get(mount["name"])
            assert volume or mount["name"] in claims, mount
            if volume and "secret" in volume:
                assert volume["secret"]["secretName"] in known, volume
                names = known[volume["secret"]["secretName"]]
                files.setdefault(w["metadata"]["name"], set()).update(f"{mount['mountPath']}/{n}" for n in names)
            elif volume and "configMap" in volume:
                names = m.config_map(volume["configMap"]["name"])
                files.setdefault(w["metadata"]["name"], set()).update(f"{mount['mountPath']}/{n}" for n in names)
            elif volume and "csi" in volume:
                at = volume["csi"]["volumeAttributes"]
                issuer = at["csi.cert-manager.io/issuer-name"]
                m.named("Issuer", issuer)
                names = ["tls.crt", "tls.key", at["csi.cert-manager.io/ca-file"]]
                files.setdefault(w["metadata"]["name"], set()).update(f"{mount['mountPath']}/{n}" for n in names)
        assert set(volumes) <= mounted, "a volume that nobody mounts"
    for w in (m.node, m.proxy):
        config = m.config(w)
        have = files[w["metadata"]["name"]]
        wanted = [config["cluster"]["ca"], config["cluster"]["cert"], config["cluster"]["key"], config["admin"]["token_file"],
                  container(w)["args"][1]]
        wanted += [config["stratum"][k] for k in ("tls_cert", "tls_key") if k in config["stratum"]]
        wanted += [config["pool"]["admin_password_file"]] if w is m.node else []
        for path in wanted:
            for i in range(w["spec"]["replicas"]):
                assert path.replace("$(POD_NAME)", f"seam-node-{i}") in have, f"{path} is not mounted"


def test_certificates_say_name_and_role(m):
    if m.has_cert_manager:
        for w, role in ((m.node, "node.seam.internal"), (m.proxy, "proxy.seam.internal")):
            (csi,) = [v["csi"] for v in pod(w)["volumes"] if "csi" in v]
            at = csi["volumeAttributes"]
            assert at["csi.cert-manager.io/common-name"] == "${POD_NAME}"
            assert role in at["csi.cert-manager.io/dns-names"].split(",")
            assert set(at["csi.cert-manager.io/key-usages"].split(",")) >= {"server auth", "client auth"}
        return
    known = m.secret_keys()
    for i in range(m.node["spec"]["replicas"]):
        name = f"seam-node-{i}"
        assert described(known["seam-node-certs"][f"{name}.pem"]) == (name, "node.seam.internal")
    assert described(known["seam-proxy-certs"]["seam-proxy.pem"]) == ("seam-proxy", "proxy.seam.internal")
    assert not any("ca.key" in keys for keys in known.values()), "the CA's key must not get into the cluster"


def described(pem):
    text = subprocess.run(["openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName,extendedKeyUsage"], input=pem,
                          capture_output=True, check=True).stdout.decode()
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    return re.search(r"CN ?= ?(\S+)", text)[1], re.search(r"DNS:([\w.]+\.seam\.internal)", text)[1]


# ---- Rights ----


def test_pods_run_with_no_rights(m):
    namespace = m.named("Namespace", m.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for w in m.workloads:
        p, c = pod(w), container(w)
        assert p["securityContext"]["runAsNonRoot"] is True
        assert p["securityContext"]["runAsUser"] == p["securityContext"]["fsGroup"] == 10001
        assert p["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert c["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                        "capabilities": {"drop": ["ALL"]}}
        assert p["automountServiceAccountToken"] is False
        account = m.named("ServiceAccount", p["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        assert not (p.get("hostNetwork") or p.get("hostPID") or any("hostPath" in v for v in p["volumes"]))
        assert "limits" in c["resources"] and "memory" in c["resources"]["limits"]
        assert "cpu" not in c["resources"]["limits"], "throttling would stall every miner at once"
        for v in p["volumes"]:
            if "secret" in v:
                assert v["secret"]["defaultMode"] == 0o440


def test_no_secret_is_in_the_manifests_or_in_the_environment(m):
    assert m.of_kind("Secret") == []
    for w in m.workloads:
        for variable in container(w).get("env", []):
            assert "secretKeyRef" not in variable.get("valueFrom", {}), "the environment is inherited and printed"
        for name, value in m.environment(w).items():
            assert not re.search("TOKEN$|PASSWORD$", name), name
    for w in (m.node, m.proxy):
        have = m.environment(w)
        assert have["SEAM_ADMIN"] == f"127.0.0.1:{ports(w)['admin']}"
        assert have["SEAM_TOKEN_FILE"] == m.config(w)["admin"]["token_file"]


# ---- The init Job ----


def test_init_job_asks_as_many_nodes_as_there_are(m):
    job = m.named("Job", "seam-init")
    assert m.environment(job)["NODES"] == str(m.node["spec"]["replicas"])
    assert job["spec"]["ttlSecondsAfterFinished"] > 0, "a finished Job would be in the way of the next version"


@pytest.fixture
def init(tmp_path):
    """Runs the Job's script against a seamctl that answers from files and notes what it is asked."""
    script = container(build("dev").named("Job", "seam-init"))["command"][2]
    (tmp_path / "seamctl").write_text("""#!/bin/sh
echo "$*" >>"$0.log"
case "$*" in
  *status) node=${2#--admin=}; node=${node%%.*}; cat "$(dirname "$0")/$node" 2>/dev/null || exit 3 ;;
esac
""")
    (tmp_path / "seamctl").chmod(0o755)

    def run(*answers):
        for i, answer in enumerate(answers):
            if answer is not None:
                (tmp_path / f"seam-node-{i}").write_text(answer)
        done = subprocess.run(["/bin/sh", "-euc", script], env={"PATH": f"{tmp_path}:/bin:/usr/bin", "NODES": "3"},
                              capture_output=True, text=True, timeout=20)
        log = (tmp_path / "seamctl.log").read_text()
        return done.returncode, "cluster init" in log, log

    return run


NEW = '{"cluster_id": null, "name": "x"}'
OLD = '{\n  "cluster_id": "6f0c9d6e5a0b4a53"\n}'


def test_init_job_forms_a_cluster_when_no_node_has_one(init):
    code, formed, log = init(NEW, NEW, NEW)
    assert (code, formed) == (0, True)
    assert log.splitlines()[-1] == "--admin=seam-node-0.seam-node:9333 cluster init"


def test_init_job_leaves_a_cluster_alone_though_node_0_lost_its_disk(init):
    assert init(NEW, NEW, OLD)[:2] == (0, False)


def test_init_job_waits_for_a_node_that_does_not_answer(init):
    code, formed, _ = init(NEW, None, NEW)
    assert code != 0 and not formed


def test_rendered_manifests_are_current():
    """The lifecycle test runs these pods with real processes; it must be these that are applied."""
    assert RENDERED.read_text() == rendered(), "run deploy/k8s/tests/render.py"


# ---- The real programs, where they are built ----


@pytest.mark.parametrize("program", ["seam-node", "seam-proxy"])
def test_programs_accept_the_configuration(m, program, tmp_path):
    found = [p for p in (ROOT / "target" / profile / program for profile in ("debug", "release")) if p.exists()]
    if not found:
        pytest.skip(f"{program} is not built")
    w = m.node if program == "seam-node" else m.proxy
    mounted = [v["configMap"]["name"] for v in pod(w)["volumes"] if "configMap" in v]
    (name, text), = m.config_map(mounted[0]).items()
    (tmp_path / name).write_text(text)
    environment = {k: v.replace("$(POD_NAME)", "seam-node-0") for k, v in m.environment(w).items()}
    if m.variant == "mainnet":  # What the operator has to fill in.
        environment |= {"SEAM_POOL_ADDRESS": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"}
    done = subprocess.run([found[0], "--config", tmp_path / name, "--check-config"], env=environment, capture_output=True,
                          text=True, timeout=60)
    # The configuration is read before the first mounted file, and that is not here.
    mount = re.fullmatch(r"seam-node: SEAM-N007: /etc/seam/\S+: No such file .*\n", done.stderr)
    assert done.returncode == 0 or mount, done.stderr + done.stdout


def test_kubectl_is_there():
    assert shutil.which("kubectl")
