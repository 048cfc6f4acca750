"""Alert rules against series, and every metric name against docs/metrics.md and against the programs."""

import json
import re
import subprocess
import urllib.request

import pytest
import yaml

from manifests import K8S, ROOT, build

MONITORING = K8S / "monitoring"
# What Prometheus itself adds to every target.
FROM_PROMETHEUS = {"up": set()}
TARGET_LABELS = {"job", "namespace", "pod", "instance"}
RULES = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
CASES = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())


def documented():
    """Of docs/metrics.md: name -> (type, labels, from)."""
    found = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) >= 5:
            name = cells[0].strip("`")
            assert name not in found, f"{name} is listed twice"
            found[name] = (re.match(r"\w+", cells[1])[0], set(re.findall(r"`(\w+)`", cells[2])), cells[3])
    return found


METRICS = documented()


def base(name):
    """A series' metric: histograms have three kinds of series."""
    for suffix in ("_bucket", "_sum", "_count"):
        if METRICS.get(name.removesuffix(suffix), ("",))[0] == "histogram":
            return name.removesuffix(suffix)
    return name


def expressions():
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for mark in dashboard["annotations"]["list"]:
        yield mark["name"], mark["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.search(r"label_values\((\w+),", variable["definition"])[1]


EXPRESSIONS = list(expressions())


def metrics_in(expression):
    return set(re.findall(r"\b((?:seam|process)_\w+)\b", re.sub(r'"[^"]*"', '""', expression)))


def test_documented_names_follow_the_conventions():
    assert len(METRICS) > 80
    for name, (kind, labels, source) in METRICS.items():
        assert name.startswith(("seam_", "process_")), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert kind in {"gauge", "counter", "histogram"}, name
        assert source.split(",")[0] in {"N", "P", "NP"}, name
        assert not labels & {"user", "sid", "session", "address", "le"}, name
        if name.startswith("seam_proxy_"):
            assert source == "P", name
        if kind == "histogram":
            assert name.endswith("_seconds"), name


@pytest.mark.parametrize("where,expression", EXPRESSIONS, ids=[w for w, _ in EXPRESSIONS])
def test_every_name_and_label_is_documented(where, expression):
    names = metrics_in(expression) | ({"up"} if re.search(r"\bup\b", expression) else set())
    assert names
    allowed = {"le"} | TARGET_LABELS
    for name in names:
        assert base(name) in METRICS or name in FROM_PROMETHEUS, f"{name} is not in docs/metrics.md"
        allowed |= METRICS.get(base(name), (None, FROM_PROMETHEUS.get(name)))[1]
        kind = METRICS.get(base(name), ("gauge",))[0]
        if kind == "histogram":
            assert name.endswith("_bucket"), name
        if kind in {"counter", "histogram"}:
            assert re.search(rf"(rate|increase)\({name}\b", expression), f"{name} only grows: rate() or increase()"
    used = set(re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"', expression))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",")}
    assert used <= allowed, f"{used - allowed} are no labels of {names}"


def test_label_values_that_alerts_ask_for_exist():
    text = (ROOT / "docs" / "metrics.md").read_text()
    for where, expression in EXPRESSIONS:
        for label, values in re.findall(r'(\w+)=~?"([^"$]*)"', expression):
            if label not in TARGET_LABELS:
                for value in values.split("|"):
                    assert f"`{value}`" in text, f"{where}: {label}={value}"


def test_rules_and_queries_parse(tmp_path):
    plain = [{"record": f"q{i}", "expr": e.replace("$__rate_interval", "5m").replace("$namespace", "seam")}
             for i, (_, e) in enumerate(EXPRESSIONS)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [*RULES["groups"], {"name": "dashboard", "rules": plain}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_alert_is_tried_once():
    assert sorted(ALERTS) == sorted(case["alert"] for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=[case["alert"] for case in CASES])
def test_alert_fires_when_it_must_and_only_then(case, tmp_path):
    rule = {k: v for k, v in ALERTS[case["alert"]].items() if k != "annotations"}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    expected = [{"exp_labels": labels | rule["labels"]} for labels in case["labels"]]

    def test(series, alerts):
        series = [{"series": name, "values": values} for name, values in series.items()]
        return {"interval": "1m", "input_series": series,
                "alert_rule_test": [{"eval_time": case["at"], "alertname": case["alert"], "exp_alerts": alerts}]}

    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test(case["fires"], expected), test(case["quiet"], [])]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_series_of_the_alert_tests_are_documented():
    for case in CASES:
        for series in [*case["fires"], *case["quiet"]]:
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series).groups()
            known = METRICS[base(name)][1] if base(name) in METRICS else FROM_PROMETHEUS[name]
            assert set(re.findall(r"(\w+)=", labels)) <= known | TARGET_LABELS | {"le"}, series


def test_every_alert_is_explained_to_the_operator():
    text = (ROOT / "docs" / "operating.md").read_text()
    explained = set(re.findall(r"^\| `(Seam\w+)`", text, re.M))
    assert explained == set(ALERTS)


def test_annotations_use_labels_that_the_alert_has():
    for name, rule in ALERTS.items():
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        groups = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        if groups:
            kept = set.intersection(*({label.strip() for label in group.split(",")} for group in groups))
            assert used <= kept, f"{name} names {used - kept}, which its expression drops"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_dashboard_is_what_its_source_makes(monkeypatch):
    monkeypatch.syspath_prepend(str(MONITORING))
    import make_dashboard
    assert (MONITORING / "dashboard.json").read_text() == make_dashboard.text(), "run monitoring/make_dashboard.py"


def test_dashboard_panels_do_not_overlap_and_fit():
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    taken, numbers = set(), set()
    for panel in dashboard["panels"]:
        assert panel["id"] not in numbers
        numbers.add(panel["id"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_scraping_names_jobs_as_the_rules_do():
    m = build("dev+monitoring")
    monitor = m.named("PodMonitor", "seam")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics" and endpoint["port"] == "admin"
    (relabel,) = endpoint["relabelings"]
    assert relabel["replacement"] == "seam-$1" and relabel["targetLabel"] == "job"
    jobs = set(re.findall(r'job="([\w-]+)"', json.dumps(EXPRESSIONS).replace('\\"', '"')))
    assert jobs == {f"seam-{w['metadata']['labels']['app.kubernetes.io/component']}" for w in (m.node, m.proxy)}


def test_programs_name_every_documented_metric():
    """Each name stands in the source of the program that the document says emits it."""
    folders = {"N": ["node/src", "cluster/src"], "P": ["proxy/src", "cluster/src"]}
    for letter, places in folders.items():
        sources = [p for place in places for p in (ROOT / place).rglob("*.rs")]
        if not (ROOT / places[0] / "metrics.rs").exists():
            pytest.skip(f"{places[0]} has no metrics yet")
        code = "\n".join(p.read_text() for p in sources)
        missing = []
        for name, (kind, _, source) in METRICS.items():
            stem = name.removeprefix("seam_").removesuffix("_total")
            # The unit may be given apart from the name.
            stems = {stem, stem.removesuffix("_seconds"), stem.removesuffix("_bytes"), stem.removesuffix("_ratio")}
            if letter in source and not any(re.search(rf'"(seam_)?{s}(_total)?"', code) for s in stems):
                missing.append(name)
        assert missing == [], f"{places[0]} does not emit them"


def exposition(text):
    """Names and types of an exposition, counters by their series' name."""
    found = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        found[f"{name}_total" if kind == "counter" and not name.endswith("_total") else name] = kind
    return found


@pytest.mark.parametrize("letter", ["N", "P"])
def test_live_metrics_are_the_documented_ones(letter, request):
    """With `--metrics-of N=http://…/metrics` (and P=…), against a running program."""
    urls = dict(u.split("=", 1) for u in request.config.getoption("--metrics-of"))
    if letter not in urls:
        pytest.skip("no running program was named")
    with urllib.request.urlopen(urls[letter], timeout=5) as answer:
        served = exposition(answer.read().decode())
    wanted = {name: kind for name, (kind, _, source) in METRICS.items() if letter in source}
    assert {n for n in served if n not in wanted} == set(), "emitted and not documented"
    assert {n for n in wanted if n not in served} == set(), "documented and not emitted"
    assert {n: (served[n], wanted[n]) for n in wanted if served[n] != wanted[n]} == {}


def test_every_error_code_is_explained_once():
    text = (ROOT / "docs" / "errors.md").read_text()
    explained = re.findall(r"^## (SEAM-[A-Z]\d+): ", text, re.M)
    assert len(explained) == len(set(explained))
    code = "\n".join(p.read_text() for crate in ("node", "proxy", "cluster") for p in (ROOT / crate / "src").rglob("*.rs"))
    used = set(re.findall(r'"(SEAM-[A-Z]\d+)"', code))
    for letter in {u[5] for u in used}:
        assert {u for u in used if u[5] == letter} == {e for e in explained if e[5] == letter}


@pytest.mark.parametrize("crate", ["node", "proxy"])
def test_every_error_code_is_one_that_the_program_can_say(crate):
    """A code that nothing raises is a page about nothing."""
    source = ROOT / crate / "src"
    fault = (source / "fault.rs").read_text()
    variants = re.findall(r"Self::(\w+) => \"SEAM-", fault)
    assert len(variants) == len(re.findall(r'"SEAM-[A-Z]\d+"', fault)) > 5
    # What can be wrong with any program's settings has its code in `fault.rs` itself.
    shared = fault[fault.index("impl From<&SettingsError> for Code"):].replace("Self::", "Code::")
    rest = "\n".join(p.read_text() for p in source.rglob("*.rs") if p.name != "fault.rs" and "tests" not in p.parts) + shared
    assert [v for v in variants if not re.search(rf"\bCode::{v}\b", rest)] == []
