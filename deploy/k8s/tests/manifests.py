"""What `kubectl kustomize` makes of each variant, for the tests to look at."""

import base64
import functools
import subprocess
import tempfile
import tomllib
from pathlib import Path

import yaml

K8S = Path(__file__).resolve().parent.parent
ROOT = K8S.parent.parent

#: What an operator applies. The components are tried on `dev`, too, each alone.
VARIANTS = ("dev", "mainnet", "dev+cert-manager", "dev+monitoring")
#: Not settings of the server.
FOR_SEAMCTL = {"SEAM_ADMIN", "SEAM_TOKEN_FILE"}
CUSTOM = {"PodMonitor", "PrometheusRule", "Certificate", "Issuer"}


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@functools.cache
def build(variant):
    overlay, _, component = variant.partition("+")
    if not component:
        return Manifests(variant, kustomize(K8S / "overlays" / overlay))
    with tempfile.TemporaryDirectory(dir=K8S / "overlays", prefix=".try-") as folder:
        text = {"resources": [f"../{overlay}"], "components": [f"../../{component}"], "namespace": "seam-dev"}
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(text))
        return Manifests(variant, kustomize(folder))


@functools.cache
def secrets(namespace, tokens_only):
    """What make-secrets prints, parsed."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tokens-only"] if tokens_only else []
        done = subprocess.run([K8S / "make-secrets", folder, "--namespace", namespace, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


class Manifests:
    """The objects of one variant."""

    def __init__(self, variant, objects):
        self.variant = variant
        self.objects = objects

    def of_kind(self, *kinds):
        return [o for o in self.objects if o["kind"] in kinds]

    def named(self, kind, name):
        found = [o for o in self.of_kind(kind) if o["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {len(found)} of it in {self.variant}"
        return found[0]

    @property
    def workloads(self):
        return self.of_kind("StatefulSet", "Deployment", "Job")

    @property
    def node(self):
        return self.named("StatefulSet", "seam-node")

    @property
    def proxy(self):
        return self.named("Deployment", "seam-proxy")

    @property
    def namespace(self):
        return self.named("Namespace", self.node["metadata"]["namespace"])["metadata"]["name"]

    @property
    def has_cert_manager(self):
        return bool(self.of_kind("Issuer"))

    def config_map(self, name):
        return self.named("ConfigMap", name)["data"]

    def config(self, workload):
        """The workload's TOML file, parsed, as the program in it reads it: environment over file."""
        mounted = [v["configMap"]["name"] for v in pod(workload)["volumes"] if "configMap" in v]
        (text,) = self.config_map(mounted[0]).values()
        config = tomllib.loads(text)
        for name, value in self.environment(workload).items():
            if not name.startswith("SEAM_") or name in FOR_SEAMCTL:
                continue
            section, _, key = name.removeprefix("SEAM_").lower().partition("_")
            if key:
                config.setdefault(section, {})[key] = value
            else:
                config[section] = value
        return config

    def environment(self, workload):
        found = {}
        for container in pod(workload)["containers"]:
            for source in container.get("envFrom", []):
                found.update(self.config_map(source["configMapRef"]["name"]))
            for variable in container.get("env", []):
                found[variable["name"]] = variable.get("value", "(from the pod)")
        return found

    def secret_keys(self):
        """Every Secret that there will be, with the keys it has."""
        known = {}
        for made in secrets(self.namespace, self.has_cert_manager) + self.of_kind("Secret"):
            data = made.get("data", {}) | made.get("stringData", {})
            known[made["metadata"]["name"]] = {key: base64.b64decode(value) for key, value in data.items()}
        for certificate in self.of_kind("Certificate"):
            known[certificate["spec"]["secretName"]] = {"tls.crt": b"", "tls.key": b"", "ca.crt": b""}
        return known


def pod(workload):
    return workload["spec"]["template"]["spec"]


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def container(workload):
    (only,) = pod(workload)["containers"]
    return only


def ports(workload):
    return {p["name"]: p["containerPort"] for p in container(workload).get("ports", [])}


def selects(selector, found):
    """Whether a label selector takes these labels."""
    wanted = selector.get("matchLabels", {}).items() <= found.items()
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        wanted = wanted and found.get(rule["key"]) in rule["values"]
    return wanted
