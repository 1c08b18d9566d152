"""SERVING.md on a shelf: what an operator reads, see `serving_config`."""

import shlex

from keras_perceiver.export.loaded_versions import next_steps
from keras_perceiver.export.manifests import RELOAD_SECONDS, REST


def guide(shelf, found, models, *, compose, kubernetes):
    """SERVING.md: what is loaded, and the commands that take a release forward and back from there.

    Args:
        shelf: the folder.
        found: `{name: versions on the shelf}`.
        models: `{name: Loaded}`.
        compose, kubernetes: names of the files that start a server.
    """
    command = f"keras-perceiver serve-config --shelf {shlex.quote(str(shelf))}"
    lines = [
        "# Serving this shelf",
        "",
        "Written by `keras-perceiver serve-config`, anew each time; models.config by the server's own protos.",
        "No server has read such files in the package's own tests. Look first whether the image that `compose.yaml`",
        "names can be pulled; `--image` names another.",
        "",
        "| model | versions that are loaded | labels | on the shelf |",
        "|---|---|---|---|",
    ]
    steps = []
    for name, model in models.items():
        labels = ", ".join(f"`{label}` {version}" for label, version in sorted(model.labels.items()))
        loaded, there = (", ".join(map(str, sorted(numbers))) for numbers in (model.versions, found[name]))
        lines.append(f"| `{name}` | {loaded} | {labels} | {there} |")
        steps += [
            f"{command} {option} {name}={number}    # {what}" for option, number, what in next_steps(found[name], model)
        ]
    return "\n".join(
        [
            *lines,
            "",
            "Start the server, or start it again where another file than models.config has changed:",
            "",
            "```bash",
            f"docker compose --file {shlex.quote(str(shelf / compose))} up --wait",
            "kubectl apply --filename " + shlex.quote(str(shelf / kubernetes)) + "    # the same by Kubernetes",
            "```",
            "",
            "Kubernetes sees a copy of the shelf, on the volume that is claimed as `saved-models`: copy new versions",
            "and the other files to it before each step, and models.config last.",
            "",
            f"What can be done next, one step at a time (a server that runs sees a step within {RELOAD_SECONDS} "
            f"s; wait until `http://127.0.0.1:{REST}/v1/models/NAME` says AVAILABLE, and give the other options "
            "of before again):",
            "",
            "```bash",
            *(steps or ["# nothing: one version is loaded, and there is no newer one"]),
            "```",
            "",
        ]
    )
