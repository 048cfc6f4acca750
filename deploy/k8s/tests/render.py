"""Writes what the lifecycle test runs: the workloads, Services and settings of the dev overlay, as JSON.

The lifecycle test (tests/integration/tests/lifecycle) is Rust and plays kubelet; it reads pods from this file, so that it needs
neither kubectl nor YAML. `test_rendered_manifests_are_current` fails when the manifests have moved on: run this again.
"""

import json

from manifests import K8S, build

RENDERED = K8S / "tests" / "rendered-dev.json"


def rendered():
    objects = build("dev").of_kind("StatefulSet", "Deployment", "Job", "Service", "ConfigMap")
    return json.dumps(objects, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    RENDERED.write_text(rendered())
    print(RENDERED)
