"""Checks the Helm chart in deploy/: Helm renders it, the schemas of Kubernetes judge it, and a gateway runs with the variables
and files that a pod would get.

Needs what `scripts/test.sh deploy` installs, and a built gateway.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import signal
import subprocess

import kubernetes_validate
import pytest
import yaml

from deploy_commands import run
from operations_stack import ROOT, eventually, fetch
from ports import free_port

CHART = ROOT / "deploy/helm/wsgw"
# The oldest version that the chart takes, and a new one.
KUBERNETES = ["1.30", "1.37"]
# Kinds that are not Kubernetes' own, so that no schema of them is at hand.
CUSTOM = {"PodMonitor", "PrometheusRule"}

EXISTING = {"secrets": {"existingSecret": "wsgw-secrets"}}
# Each a set of values that a user could have.
VALUES: dict[str, dict] = {
    "nothing": {},
    "existing-secret": EXISTING,
    "terminator": {"mode": "terminator", "replicas": 1, **EXISTING, "persistence": {"enabled": True, "storageClass": "ssd"}},
    "own-pipeline": {"pipeline": (ROOT / "pipelines/routed.yaml").read_text(), "secrets": {"values": {"REDIS_DSN": "redis://redis:6379/0"}}},
    "own-config-map": {"existingConfigMap": "mine", **EXISTING},
    "everything": {
        **EXISTING,
        "image": {"repository": "registry.example/wsgw", "digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]},
        "env": {"REDIS_STREAM": "a", "WS_RATE_LIMIT_PER_SEC": 50, "REPLAY_AUDIT_LOG": True, "REPLAY_MAXLEN": 2000000},
        "server": {
            "path": "/socket", "drainSeconds": 60.5, "reconnectSpreadSeconds": 30, "maxConnections": 5000000,
            "allowedOrigins": ["https://a.example", "https://b.example"], "trustedProxies": ["10.0.0.0/8"],
        },
        "autoscaling": {"enabled": True, "connections": 20000000},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "ingress": {"enabled": True, "className": "nginx", "host": "ws.example", "tlsSecret": "tls"},
        "networkPolicy": {
            "publicFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            "internalFrom": [{"namespaceSelector": {"matchLabels": {"c": "d"}}}],
            "egress": [{"ports": [{"port": 6379}]}],
        },
        "monitoring": {"podMonitor": True, "rules": True, "labels": {"release": "prometheus"}, "runbookBase": "https://git.example/"},
        "serviceAccountName": "wsgw", "priorityClassName": "high", "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}},
        "podLabels": {"a": "b"}, "podAnnotations": {"a": "b"},
    },
    # Names that YAML would take for something else.
    "odd": {
        "secrets": {"existingSecret": "123", "keys": ["JWT_PUBLIC_KEY", "GATEWAY_API_KEY", "REDIS_DSN"]},
        "serviceAccountName": "123", "priorityClassName": "true", "image": {"pullSecrets": ["123"]},
        "persistence": {"enabled": True, "storageClass": "on"}, "existingConfigMap": "1",
        "ingress": {"enabled": True, "host": "ws.example", "className": "0", "tlsSecret": "null"},
        "server": {"path": "/a:b"},
    },
    "as-little-as-possible": {
        "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "topologySpread": {"enabled": False},
        "preStopSeconds": 0, "replicas": 1, "server": {"drainSeconds": 0}, "autoscaling": {"cpuUtilization": None},
    },
}  # fmt: skip

# Values that cannot work, and what Helm says.
REFUSED = {
    "several-terminators": ({"mode": "terminator"}, "mode terminator is for one gateway"),
    "scaled-terminators": ({"mode": "terminator", "replicas": 1, "autoscaling": {"enabled": True}}, "mode terminator is for one gateway"),
    "two-pipelines": ({"pipeline": "a: b", "existingConfigMap": "c"}, "which one is it"),
    "two-secrets": ({"secrets": {"existingSecret": "a", "values": {"REDIS_DSN": "b"}}}, "which one is it"),
    "no-host": ({"ingress": {"enabled": True}}, "needs ingress.host"),
    "no-metric": ({"autoscaling": {"enabled": True, "cpuUtilization": None}}, "needs autoscaling.connections"),
    "few-replicas": ({"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "is above"),
    "no-path": ({"server": {"path": "/a b"}}, "/server/path"),
    "a-typo": ({"replica": 3}, "replica"),
    "a-typo-within": ({"server": {"drainSecond": 3}}, "drainSecond"),
    "the-chart's-own-variable": ({"env": {"WSGW__SERVER__LISTEN": "0.0.0.0:1"}}, "env.WSGW__SERVER__LISTEN is the chart's own"),
    "a-variable-that-would-not-count": ({"env": {"WSGW_LISTEN": "0.0.0.0:1"}}, "env.WSGW_LISTEN is the chart's own"),
    "a-variable-of-a-value": ({"env": {"WSGW__SERVER__MAX_CONNECTIONS": 5}}, "server.maxConnections"),
    "given-twice": ({"env": {"REDIS_DSN": "a"}, "secrets": {"values": {"REDIS_DSN": "b"}}}, "both give REDIS_DSN"),
    "given-twice-by-a-file": ({"env": {"JWT_PUBLIC_KEY_FILE": "a"}, **EXISTING}, "both give JWT_PUBLIC_KEY"),
    "the-chart's-own-label": ({"podLabels": {"app.kubernetes.io/name": "a"}}, "podLabels has app.kubernetes.io/name"),
    "no-variable": ({"secrets": {"keys": ["api-key"]}}, "/secrets/keys"),
}  # fmt: skip


def helm(home: pathlib.Path, command: list[str], values: dict, ok: bool = True) -> str:
    (home / "values.yaml").write_text(yaml.safe_dump(values))
    return run("helm", *command, "--values", home / "values.yaml", "--kube-version", KUBERNETES[0], ok=ok)


def render(home: pathlib.Path, values: dict, release: str = "chat") -> dict[tuple[str, str], dict]:
    """What Helm would create, by kind and name."""
    text = helm(home, ["template", release, str(CHART), "--namespace", "live"], values)
    found = [document for document in yaml.safe_load_all(text) if document]
    named = {(document["kind"], document["metadata"]["name"]): document for document in found}
    assert len(found) == len(named), "two objects have one name"
    return named


def of_kind(objects: dict[tuple[str, str], dict], *kinds: str) -> list[dict]:
    return [document for (kind, _), document in objects.items() if kind in kinds]


def workload(objects: dict[tuple[str, str], dict]) -> dict:
    [found] = of_kind(objects, "Deployment", "StatefulSet")
    return found


def pod(objects: dict[tuple[str, str], dict]) -> dict:
    return workload(objects)["spec"]["template"]["spec"]


def merged(base: dict, over: dict) -> dict:
    """Values as Helm merges them."""
    both = {key: merged(base.get(key) or {}, value) if isinstance(value, dict) else value for key, value in over.items()}
    return {**base, **both}


@pytest.fixture(params=VALUES, name="values")
def each_values(request) -> dict:
    return VALUES[request.param]


def test_chart_is_well_formed(values, tmp_path):
    assert "0 chart(s) failed" in helm(tmp_path, ["lint", "--strict", str(CHART)], values)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object(values, version, tmp_path):
    objects = render(tmp_path, values)
    assert of_kind(objects, "Service")
    for (kind, name), document in objects.items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "chat", name


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_cannot_work_are_refused(case, tmp_path):
    values, said = REFUSED[case]
    assert said in helm(tmp_path, ["template", str(CHART)], values, ok=False)


def test_pods_are_as_restricted_as_pod_security_can_ask(values, tmp_path):
    spec = pod(render(tmp_path, values))
    [container] = spec["containers"]
    assert not spec["automountServiceAccountToken"] and not spec["enableServiceLinks"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    assert all("subPath" not in mount for mount in container["volumeMounts"]), "what is mounted by subPath never changes"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in workload(render(tmp_path, values))["spec"].get("volumeClaimTemplates", [])}
    assert mounts == {volume["name"] for volume in spec["volumes"]} | claims


def test_the_grace_period_fits_the_drain(values, tmp_path):
    drain = merged(yaml.safe_load((CHART / "values.yaml").read_text()), values)["server"]["drainSeconds"]
    spec = pod(render(tmp_path, values))
    [container] = spec["containers"]
    pause = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})["preStop"]["sleep"]["seconds"]
    assert "`drain_seconds` + the greater of `drain_seconds` and 7 s + 8 s" in " ".join(
        (ROOT / "docs/operations.md").read_text().replace("*", "").split()
    )
    most = pause + drain + max(drain, 7) + 8
    assert most < spec["terminationGracePeriodSeconds"] <= most + 10
    assert {"name": "WSGW__SERVER__DRAIN_SECONDS", "value": str(drain)} in container["env"]


def test_secrets_are_nowhere_but_in_the_secret(tmp_path):
    objects = render(tmp_path, {"secrets": {"values": {"REDIS_DSN": "redis://:hush@redis", "GATEWAY_API_KEY": "hush-too"}}})
    [secret] = of_kind(objects, "Secret")
    assert secret["stringData"] == {"REDIS_DSN": "redis://:hush@redis", "GATEWAY_API_KEY": "hush-too"}
    others = [document for document in objects.values() if document["kind"] != "Secret"]
    assert "hush" not in json.dumps(others)


def test_the_gateway_knows_every_variable(values, tmp_path):
    objects = render(tmp_path, {**values, "existingConfigMap": ""})
    [config] = of_kind(objects, "ConfigMap")
    (tmp_path / "wsgw.yaml").write_text(config["data"]["wsgw.yaml"])
    (tmp_path / "REDIS_DSN").write_text("redis://redis:6379/0")
    (tmp_path / "GATEWAY_API_KEY").write_text("a-long-key-of-the-chart")
    (tmp_path / "SYMFONY_WEBHOOK_SECRET").write_text("a-long-secret-of-the-chart")
    shutil.copy(ROOT / "tests/keys/rsa.pub.pem", tmp_path / "JWT_PUBLIC_KEY")
    [container] = pod(objects)["containers"]
    environment = {entry["name"]: entry["value"].replace("/etc/wsgw/secrets", str(tmp_path)) for entry in container["env"]}
    for name in ("JWT_PUBLIC_KEY", "REDIS_DSN"):
        environment.setdefault(f"{name}_FILE", str(tmp_path / name))
    # A variable of ours that names no key is an error; explain also tells what each amounts to.
    run(ROOT / "target/debug/wsgw", "check", tmp_path / "wsgw.yaml", env=environment)
    said = run(ROOT / "target/debug/wsgw", "explain", tmp_path / "wsgw.yaml", env=environment)
    assert "0.0.0.0:8001" in said
    if "REPLAY_MAXLEN" in values.get("env", {}):
        assert "replay.maxlen = 2000000" in said, "a number is the one that was given"
    for origin in values.get("server", {}).get("allowedOrigins", []):
        assert origin in said


def test_texts_arrive_as_they_are(tmp_path):
    text = '  "quoted" and \'so\'\n\t{{ .Values }}: ${HOME} # \\ \x7f é 😀 \u2028'
    pipeline = "  # begins further in\n  snoke_ws: { mode: core }\n"
    objects = render(tmp_path, {"env": {"A": text}, "secrets": {"values": {"REDIS_DSN": text}}, "pipeline": pipeline})
    [container] = pod(objects)["containers"]
    assert {"name": "A", "value": text} in container["env"]
    [secret] = of_kind(objects, "Secret")
    assert secret["stringData"] == {"REDIS_DSN": text}
    [config] = of_kind(objects, "ConfigMap")
    assert config["data"]["wsgw.yaml"] == pipeline


@pytest.mark.parametrize("mode", ["core", "terminator"])
def test_an_existing_secret_gives_what_the_mode_needs(mode, tmp_path):
    objects = render(tmp_path, {"mode": mode, "replicas": 1, **EXISTING})
    [container] = pod(objects)["containers"]
    files = {entry["name"] for entry in container["env"] if entry["name"].endswith("_FILE")}
    wanted = {"core": "REDIS_DSN_FILE", "terminator": "SYMFONY_WEBHOOK_SECRET_FILE"}
    assert files == {"GATEWAY_API_KEY_FILE", "JWT_PUBLIC_KEY_FILE", wanted[mode]}


def test_the_longest_names_are_taken(tmp_path):
    name = "r" * 53
    for document in render(tmp_path, {**VALUES["everything"], "persistence": {"enabled": True}}, name).values():
        assert len(document["metadata"]["name"]) <= 63
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, KUBERNETES[0], strict=True)


def test_services_and_ingress_reach_the_right_ports(tmp_path):
    objects = render(tmp_path, VALUES["everything"])
    [container] = pod(objects)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"public": 8000, "internal": 8001}
    labels = workload(objects)["spec"]["template"]["metadata"]["labels"]
    for service in of_kind(objects, "Service"):
        assert service["spec"]["selector"].items() <= labels.items()
        [port] = service["spec"]["ports"]
        assert port["targetPort"] == ("internal" if "internal" in service["metadata"]["name"] else "public")
        assert port["targetPort"] != "internal" or service["spec"]["type"] == "ClusterIP", "the internal port is not for outside"
    [ingress] = of_kind(objects, "Ingress")
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"], path["backend"]["service"]["port"]) == ("/socket", "Exact", {"name": "public"})
    assert path["backend"]["service"]["name"] in {service["metadata"]["name"] for service in of_kind(objects, "Service")}
    [policy] = of_kind(objects, "NetworkPolicy")
    internal = [rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == "internal"]
    assert internal == [[{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"c": "d"}}}]]


@pytest.mark.parametrize("others", [[], [{"podSelector": {"matchLabels": {"app": "backend"}}}]])
def test_the_internal_port_can_be_closed_to_the_namespace(others, tmp_path):
    values = {"networkPolicy": {"internalFromNamespace": False, "internalFrom": others}}
    [policy] = of_kind(render(tmp_path, values), "NetworkPolicy")
    kubernetes_validate.validate(policy, KUBERNETES[0], strict=True)
    rules = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == "internal"]
    # A rule whose `from` is empty lets everyone in.
    assert [rule["from"] for rule in rules] == ([others] if others else [])


def test_scaling_asks_for_a_metric_that_the_gateway_has(tmp_path):
    [scaler] = of_kind(render(tmp_path, VALUES["everything"]), "HorizontalPodAutoscaler")
    metrics = scaler["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Pods", "Resource"]
    name = metrics[0]["pods"]["metric"]["name"]
    assert metrics[0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "20000000"}
    assert f"| `{name}` | gauge |" in (ROOT / "docs/operations.md").read_text()
    [rule] = yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == name and rule["seriesQuery"].startswith(name + "{")


def test_the_alerts_are_those_of_the_project(tmp_path):
    [rules] = of_kind(render(tmp_path, VALUES["everything"]), "PrometheusRule")
    ours = yaml.safe_load((ROOT / "docs/operations/alerts.yaml").read_text())["groups"]
    text = json.dumps([group for group in ours if group["name"] != "wsgw.limits"])
    want = json.loads(text.replace('"runbook_url": "', '"runbook_url": "https://git.example/'))
    *others, limits = rules["spec"]["groups"]
    assert others == want
    assert {rule["record"] for rule in limits["rules"]} == {rule["record"] for rule in ours[0]["rules"]}
    [monitor] = of_kind(render(tmp_path, VALUES["everything"]), "PodMonitor")
    [relabeling] = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert relabeling["targetLabel"] == "job" and f'job="{relabeling["replacement"]}"' in text.replace('\\"', '"')


def kubelet(volume: pathlib.Path, files: dict[str, str]) -> None:
    """Writes a volume as the kubelet does: files are links into `..data`, which is a link that is replaced."""
    number = len(list(volume.glob("..v*"))) if volume.exists() else 0
    (volume / f"..v{number}").mkdir(parents=True)
    for name, content in files.items():
        (volume / f"..v{number}" / name).write_text(content)
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    (volume / "..new").symlink_to(f"..v{number}")
    (volume / "..new").rename(volume / "..data")


def test_a_gateway_runs_with_what_a_pod_gets(tmp_path):
    secrets = {
        "JWT_PUBLIC_KEY": (ROOT / "tests/keys/rsa.pub.pem").read_text(),
        "GATEWAY_API_KEY": "the-first-key-of-the-gateway\n",
    }
    values = {"mode": "terminator", "replicas": 1, "secrets": {"values": secrets}, "env": {"WS_RATE_LIMIT_PER_SEC": 7}}
    objects = render(tmp_path, values)
    [config] = of_kind(objects, "ConfigMap")
    [container] = pod(objects)["containers"]
    volumes = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    kubelet(volumes["/etc/wsgw/config"], config["data"])
    kubelet(volumes["/etc/wsgw/secrets"], secrets)
    volumes["/data"].mkdir()
    ports = {8000: free_port(), 8001: free_port()}

    def here(value: str) -> str:
        for mounted, volume in volumes.items():
            value = re.sub(f"^{mounted}(?=/|$)", str(volume), value)
        return re.sub(r"^0\.0\.0\.0:(\d+)$", lambda match: f"127.0.0.1:{ports[int(match[1])]}", value)

    environment = {entry["name"]: here(entry["value"]) for entry in container["env"]}
    internal = f"http://127.0.0.1:{ports[8001]}"
    log = tmp_path / "log"

    def configuration() -> dict[str, str]:
        return {"hash": re.search(r'wsgw_config_info\{hash="(\w+)"', fetch(f"{internal}/metrics")[1])[1]}

    def listed(key: str) -> int:
        return fetch(f"{internal}/internal/connections", headers={"X-API-Key": key})[0]

    with log.open("w") as output:
        gateway = subprocess.Popen(
            [ROOT / "target/debug/wsgw", *container["args"]], cwd=volumes["/data"], env=environment, stderr=output
        )
        try:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = container[probe]["httpGet"]["path"]
                eventually(f"{probe}: {log.read_text()}", lambda: fetch(f"{internal}{path}")[0] == 200)
            assert fetch(f"http://127.0.0.1:{ports[8000]}/ready")[0] == 404, "the public port has only the WebSocket"
            assert fetch(f"http://127.0.0.1:{ports[8000]}/ws")[0] == 426
            assert listed("the-first-key-of-the-gateway") == 200

            before = configuration()
            changed = config["data"]["wsgw.yaml"].replace("path: /ws\n", "path: /ws\n    max_message_bytes: 1234\n", 1)
            kubelet(volumes["/etc/wsgw/config"], {"wsgw.yaml": changed})
            eventually("a changed ConfigMap is taken", lambda: configuration() != before)
            kubelet(volumes["/etc/wsgw/secrets"], {**secrets, "GATEWAY_API_KEY": "the-second-key-of-the-gateway"})
            eventually("a changed Secret is taken", lambda: listed("the-second-key-of-the-gateway") == 200)
            assert listed("the-first-key-of-the-gateway") == 401
        finally:
            gateway.send_signal(signal.SIGTERM)
            code = gateway.wait(60)
    assert code == 0, log.read_text()
