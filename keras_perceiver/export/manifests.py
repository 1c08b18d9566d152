"""How a server is started, by Docker Compose or by Kubernetes: as dictionaries, see `serving_config`."""

import ipaddress
import shlex

GRPC, REST = 8500, 8501
RELOAD_SECONDS = 10  # between two looks at models.config
LONGEST_ANSWER = 300  # seconds of a request by REST, where the server's own limit is 30
METRICS = "/monitoring/prometheus/metrics"
USER = 65534  # nobody
WITHIN = "/models"  # where a container sees the shelf
NAME = "keras-perceiver"
APP = {"app": NAME}


def arguments(root, *, xla):
    """What `tensorflow_model_server` is started with, but for its ports."""
    return [
        f"--model_config_file={root}/models.config",
        f"--model_config_file_poll_wait_seconds={RELOAD_SECONDS}",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={root}/batching.config",
        f"--monitoring_config_file={root}/monitoring.config",
        f"--rest_api_timeout_in_ms={1000 * LONGEST_ANSWER}",
        *(["--xla_cpu_compilation_enabled=true"] if xla else []),
    ]


def monitoring():
    """A text proto of TensorFlow Serving's `MonitoringConfig`."""
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS}"\n}}\n'


def is_loopback(host):
    """Whether an address is reached from the same machine alone."""
    return ipaddress.ip_address(host).is_loopback


def check(names, root):
    """A command, in the bash of the image, which has no curl: that these models can be asked by their label `stable`.

    It asks for what a model takes, as the server looks at the label there, and not where it tells of its state. Models
    that have left models.config meanwhile are missed by nobody.
    """
    asked = (
        f"for name in {' '.join(names)}; do "
        f'grep -qF "name: \\"$name\\"" {shlex.quote(f"{root}/models.config")} || continue; '
        f"exec 3<>/dev/tcp/127.0.0.1/{REST}; "
        "printf 'GET /v1/models/%s/labels/stable/metadata HTTP/1.0\\r\\n\\r\\n' \"$name\" >&3; "
        "read -r answer <&3; [[ $answer == *' 200 '* ]]; done"
    )
    return ["bash", "-ec", asked]


def compose(names, args, *, root, image, host, cpus, memory, settings):
    """compose.yaml, which lies on the shelf. Compose puts variables in place of `$name`, and `$` in place of `$$`.

    `settings` stand for the files that a server reads once: where they are others, it is made anew.
    """
    args, probe = ([part.replace("$", "$$") for part in parts] for parts in (args, check(names, root)))
    address = f"[{host}]" if ":" in host else host
    return {
        "services": {
            "serving": {
                "image": image,
                "labels": {f"{NAME}.settings": settings},
                "command": args,
                "ports": [f"{address}:{port}:{port}" for port in (GRPC, REST)],
                "volumes": [{"type": "bind", "source": ".", "target": root.replace("$", "$$"), "read_only": True}],
                "read_only": True,
                "tmpfs": ["/tmp"],
                "user": f"{USER}:{USER}",
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                "restart": "unless-stopped",
                "deploy": {"resources": {"limits": {"cpus": str(cpus), "memory": f"{memory}g"}}},
                "healthcheck": {
                    "test": ["CMD", *probe],
                    "interval": "10s",
                    "timeout": "5s",
                    "retries": 3,
                    "start_period": "1800s",  # the warm-up of ImageNet takes ten minutes
                },
            }
        }
    }


def kubernetes(names, args, *, root, image, host, cpus, memory, settings):
    """The documents of kubernetes.yaml: who may come in, the address, the server.

    The volume `saved-models` holds the shelf. Unless `host` is one that others reach, no pod may ask the server:
    what remains is `kubectl port-forward`, and the probes of the node itself. `settings` as of `compose`.
    """
    ready = {"exec": {"command": check(names, root)}, "periodSeconds": 10, "timeoutSeconds": 5}
    listens = {"tcpSocket": {"port": GRPC}, "periodSeconds": 10}
    container = {
        "name": "serving",
        "image": image,
        "args": args,
        "ports": [{"name": "grpc", "containerPort": GRPC}, {"name": "rest", "containerPort": REST}],
        "resources": {name: {"cpu": str(cpus), "memory": f"{memory}Gi"} for name in ("requests", "limits")},
        # The ports open when all models are loaded and warm.
        "startupProbe": {**listens, "failureThreshold": 180},  # half an hour, as above
        "readinessProbe": ready,
        "livenessProbe": {**listens, "failureThreshold": 6},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "shelf", "mountPath": root, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "shelf", "persistentVolumeClaim": {"claimName": "saved-models", "readOnly": True}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    seen = {"prometheus.io/scrape": "true", "prometheus.io/port": str(REST), "prometheus.io/path": METRICS}
    seen[f"{NAME}/settings"] = settings
    named = {"name": NAME, "labels": APP}
    inwards = [] if is_loopback(host) else [{"from": [{"podSelector": {}}]}]
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": named,
            "spec": {"podSelector": {"matchLabels": APP}, "policyTypes": ["Ingress", "Egress"], "ingress": inwards},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {
                "type": "ClusterIP",
                "selector": APP,
                "ports": [{"name": n, "port": p, "targetPort": n} for n, p in (("grpc", GRPC), ("rest", REST))],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": named,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": APP},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": APP, "annotations": seen}, "spec": pod},
            },
        },
    ]
