"""The shelf of exported models, `<name>/<version>/`, and what lies beside each of them for people."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras_perceiver
from keras_perceiver._checks import InputError, printable, require, require_folder
from keras_perceiver._files import storage_problem

DESCRIPTION = (
    "perceiver.json"  # in `assets.extra/` of a SavedModel, which TensorFlow leaves alone; beside a LiteRT file
)
MODEL_CARD = "README.md"
LITERT_FILE = "model.tflite"
UNFINISHED = ".unfinished-"  # before the name of a folder that is being written
ABANDONED = 24 * 3600  # seconds after which nobody writes it any more: its process was killed
VERSION = r"0|[1-9][0-9]{0,17}"  # the name of a version's folder, as a server has room for
ARTEFACTS = {"saved_model.pb": "saved_model", LITERT_FILE: "litert"}  # the file by which a format is known


@dataclass(frozen=True)
class Export:
    """What was exported: its `folder` on the shelf, and the `report` of its gate, which lies in it."""

    folder: Path
    report: dict

    def lines(self):
        """What was measured, as sentences."""
        report = self.report
        differences = [difference for outputs in report["endpoints"].values() for difference in outputs.values()]
        worst = max(differences, key=lambda difference: difference["relative"] / difference["tolerance"])
        lines = [
            f"largest difference from the live model: {worst['relative']:.1e} of the largest value, "
            f"{worst['tolerance']:.0e} may be ({report['examples']} examples, {report['runtime']})"
        ]
        if "latency" not in report:
            return lines
        latency = ", ".join(
            f"{times['median']:.2f} ms with {threads} thread{'' if threads == '1' else 's'}"
            for threads, times in report["latency"].items()
        )
        each = 100 / report["num_examples"]
        return [
            *lines,
            f"size: {report['bytes']:,} bytes",
            f"latency of one example: {latency} (medians)",
            f"largest difference of a logit: {report['logit_difference']:.1e} of the largest logit",
            f"{report['figure_name']}: {report['figure']:.2%}, of the model {report['model_figure']:.2%}, lost "
            f"{report['points_lost']:.2f} points of {report['points_allowed']:g} that may be, on "
            f"{report['num_examples']:,} {report['examples']} examples"
            + (f", each of which is {each:.2f} points" if each > report["points_allowed"] else ""),
        ]


def check_name(name):
    """Requires a name that cannot leave the shelf."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None,
        "`name` must begin with a letter or digit and consist of letters, digits, '.', '_' and '-'",
        name=name,
    )


def versions(home):
    """The versions that lie in the folder of a model, ascending."""
    return sorted(int(p.name) for p in Path(home).iterdir() if p.is_dir() and re.fullmatch(VERSION, p.name))


def find_export(folder, argument="model"):
    """`(folder of an export, "saved_model" or "litert")` in a folder of one version, or of several: the newest.

    Raises:
        InputError: where there is none; `argument` is how the message calls the folder.
    """
    folder = Path(folder)
    require(folder.is_dir(), f"`{argument}` must be a folder", **{argument: str(folder)})
    newest = [folder / str(number) for number in versions(folder)[-1:]]
    for candidate in (folder, *newest):
        for name, artefact_format in ARTEFACTS.items():
            if (candidate / name).is_file():
                return candidate, artefact_format
    raise InputError(
        f"`{argument}` must be the folder of a SavedModel or a LiteRT file, or of its versions. Received: "
        f"{argument}={str(folder)!r}. `keras-perceiver train` exports one to saved_models/<name>/<version>/."
    )


def read_description(folder, artefact_format):
    """The content of an export's `DESCRIPTION`."""
    path = folder / ("assets.extra" if artefact_format == "saved_model" else "") / DESCRIPTION
    try:
        description = json.loads(path.read_text())
        require(isinstance(description, dict), "It must hold an object", content=type(description).__name__)
        return description
    except (OSError, ValueError) as error:
        raise InputError(
            f"What is served must have been exported by keras-perceiver, with a readable `{path}`. {error}"
        ) from error


@contextmanager
def new_version(shelf, name):
    """A folder to write the next version of a model into, beside its place; it is renamed into it when all went well.

    Yields a `pathlib.Path`, and a list that then holds the version's. Whatever is raised leaves nothing behind; what a
    process that was killed has left is removed a day later.

    Raises:
        InputError: where the shelf cannot be written to, as on a full disk, the model's place on it is a link, or there
            is no version behind those that there are.
    """
    home, temporary, published = Path(shelf) / name, None, []
    require_folder(shelf=shelf)
    require(not home.is_symlink(), "A model's folder on the shelf must not be a link", folder=str(home))
    try:
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(f"{UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):  # another export that has been finished meanwhile
                if time.time() - left.stat().st_mtime > ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
        _next_version(home)  # there must be one, which is known before long work
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=home))
        yield temporary, published
        temporary.chmod(0o755)
        published.append(_publish(temporary, home))
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        problem = storage_problem(error)
        if problem is None:
            raise
        raise InputError(
            f"`shelf` must be writable, with room for a model, and so must {tempfile.gettempdir()}. ({problem}) "
            f"Received: shelf={str(shelf)!r}. What was there stays; the same command exports again."
        ) from error


def marked_version(shelf, name, mark):
    """The folder of the version of a model with `mark` as `export` in its provenance, or None."""
    home = Path(shelf) / name
    for number in reversed(versions(home) if home.is_dir() else []):
        folder = home / str(number)
        with contextlib.suppress(InputError):  # somebody else's, or a LiteRT file
            if (read_description(folder, "saved_model").get("provenance") or {}).get("export") == mark:
                return folder
    return None


def _next_version(home):
    """The folder behind the highest version."""
    taken = [int(p.name) for p in home.iterdir() if re.fullmatch(VERSION, p.name)]  # by a file too
    version = home / str(max(taken, default=0) + 1)
    rule = "Versions must have at most 18 digits, as servers have room for no more"
    require(re.fullmatch(VERSION, version.name) is not None, rule, next=version.name, shelf=str(home))
    return version


def _publish(temporary, home):
    """Renames a finished export to the next version; another process may be doing the same."""
    while True:
        version = _next_version(home)
        try:
            os.rename(temporary, version)  # fails where the folder exists and is not empty
        except OSError:
            if not version.exists():
                raise
        else:
            return version


def describe_export(served, name, class_names, provenance):
    """What there is to know of an exported model, as JSON holds it: `DESCRIPTION`."""
    require(
        served.model.output_shape[-1] == len(class_names),
        "`class_names` must hold one name per logit",
        class_names=len(class_names),
        logits=served.model.output_shape[-1],
    )
    return {
        "name": name,
        "modality": served.kind.name,
        "inputs": served.describe_inputs(),
        "example_shape": list(served.shape),  # see `Modality`
        "preprocessing": {"in_the_graph": True, "settings": served.settings},
        "class_names": list(class_names),
        "multi_label": served.is_multi_label,
        "parameters": served.model.count_params(),
        "keras_perceiver": keras_perceiver.__version__,
        "provenance": {"code_licence": "Apache-2.0", "licence": None, **(provenance or {})},
    }


def write_json(path, content):
    """Writes one of an export's JSON files."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def model_card(description, endpoints, measured):
    """The README of an exported model.

    Args:
        description: of `describe_export`.
        endpoints: `{endpoint: one line that says what it takes and returns}`.
        measured: lines of figures that were measured on the artefact.
    """
    known = description["provenance"]
    names = description["class_names"]
    shown = ", ".join(printable(name) for name in names[:20]) + (
        f", .. (all in `{DESCRIPTION}`)" if len(names) > 20 else ""
    )
    lines = [
        f"# {description['name']}",
        "",
        f"A classifier of the modality `{description['modality']}` with {description['parameters']:,} parameters, "
        f"exported by keras_perceiver {description['keras_perceiver']}.",
        "",
        f"**Classes** ({len(names)}{', several an example' if description['multi_label'] else ''}): {shown}",
        "",
        "## What it takes",
        "",
        *(f"- `{name}`: {said}" for name, said in endpoints.items()),
        "",
        f"Preprocessing is part of the graph: `{json.dumps(description['preprocessing']['settings'])}`.",
        "",
        "## Figures",
        "",
        *(f"- {line}" for line in measured),
        "",
        "## Where it comes from",
        "",
        f"- data: {printable(str(known.get('data') or 'not stated'))}",
        f"- licence of the weights and the data: {printable(str(known['licence'] or 'not stated'))}; of the code: "
        f"{known['code_licence']}",
    ]
    for key in ("configuration", "metrics"):
        if known.get(key):
            lines += ["", f"{key.capitalize()}:", "", "```json", json.dumps(known[key], indent=1), "```"]
    return "\n".join(lines) + "\n"
