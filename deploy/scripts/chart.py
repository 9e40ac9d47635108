"""Checks rendered manifests of the chart: `chart.py < manifests`, or `chart.py CHART VALUES` to render them first, without helm.

Each object must fit the schema of its kind for several versions of Kubernetes, and keep the rules below. Kinds of other projects have
no schema here; they are named in the output.
"""

import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.25", "1.33"]
OTHERS = {"ScaledObject", "PodMonitor", "PrometheusRule"}


def render(chart, values):
    import helm_python

    report = helm_python.lint(chart, strict=True)
    for message in report["messages"]:
        if message["severity"] > 1:
            sys.exit(f"WRONG: {message['path']}: {message['error']}")
    with helm_python.Chart.load(chart) as loaded, open(values) as given:
        rendered = loaded.render(values=yaml.safe_load(given), name="ci")
    if isinstance(rendered, dict):
        return "\n---\n".join(text for name, text in rendered.items() if name.endswith(".yaml"))
    return rendered


def pods(found):
    return [it["spec"]["template"]["spec"] for it in found if it["kind"] == "Deployment"]


def rules(found):
    """What is wrong with a set of objects."""
    deployments = {it["metadata"]["name"]: it for it in found if it["kind"] == "Deployment"}
    for it in found:
        name = f"{it['kind']} {it['metadata']['name']}"
        if it["kind"] == "Deployment":
            template, selector = it["spec"]["template"], it["spec"]["selector"]["matchLabels"]
            if not selector.items() <= template["metadata"]["labels"].items():
                yield f"{name} does not select its own pods"
            if it["spec"].get("replicas") is not None and any(
                scaled["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")
                and scaled["spec"]["scaleTargetRef"]["name"] == it["metadata"]["name"]
                for scaled in found
            ):
                yield f"{name} sets replicas that an autoscaler sets too"
        if it["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            if it["spec"]["scaleTargetRef"]["name"] not in deployments:
                yield f"{name} scales nothing"
    for pod in pods(found):
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser"):
            yield "a pod may run as root"
        if pod.get("automountServiceAccountToken") is not False:
            yield "a pod gets a token of Kubernetes that it does not need"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            name = container["name"]
            own = container.get("securityContext", {})
            if not own.get("readOnlyRootFilesystem") or own.get("allowPrivilegeEscalation") is not False:
                yield f"{name} may write to its image, or gain privileges"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe not in container:
                    yield f"{name} has no {probe}"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{name} mounts {mount['name']}, which the pod does not have"
            settings = {it["name"]: it.get("value") for it in container["env"]}
            if len(settings) != len(container["env"]):
                yield f"{name} has a variable twice"
            drain = int(settings.get("STEPFLEET_DRAIN_SECONDS") or 0)
            if pod["terminationGracePeriodSeconds"] < drain + 5:
                yield f"{name} is killed before its steps have ended"


def main(arguments):
    text = render(*arguments) if arguments else sys.stdin.read()
    found = [it for it in yaml.safe_load_all(text) if it]
    wrong = list(rules(found))
    unchecked = set()
    for it in found:
        if it["kind"] in OTHERS:
            unchecked.add(it["kind"])
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(it, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append(f"{it['kind']} {it['metadata']['name']}, Kubernetes {version}: {str(error).splitlines()[0]}")
    kinds = sorted({it["kind"] for it in found} - unchecked)
    print(f"{len(found)} objects; checked against the schemas: {', '.join(kinds)}")
    if unchecked:
        print(f"no schema, read as YAML only: {', '.join(sorted(unchecked))}")
    for what in wrong:
        print(f"WRONG: {what}")
    return 1 if wrong or not found else 0


sys.exit(main(sys.argv[1:]))
