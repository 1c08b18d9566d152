"""A shelf of exports -> the files that an operator of TensorFlow Serving needs, beside the models."""

import hashlib
import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_positive
from keras_perceiver._files import write_atomically
from keras_perceiver.export import manifests
from keras_perceiver.export.batching import derive_batching, read_timings
from keras_perceiver.export.endpoints import XLA
from keras_perceiver.export.loaded_versions import Loaded, choose_versions, find_models
from keras_perceiver.export.operating import guide
from keras_perceiver.export.shelf import VERSION, read_description

MODELS, BATCHING, MONITORING = "models.config", "batching.config", "monitoring.config"
COMPOSE, KUBERNETES, OPERATING = "compose.yaml", "kubernetes.yaml", "SERVING.md"
HEADER = "# Written by `keras-perceiver serve-config`, which takes the changes; SERVING.md beside it says how.\n"


@dataclass(frozen=True)
class ServingConfig:
    """What was written: `files`, by name; `models`, `{name: Loaded}`; `notes`, sentences on what was chosen."""

    files: dict[str, Path]
    models: dict[str, Loaded]
    notes: list[str]


def write_serving_config(
    shelf="saved_models",
    *,
    canary=None,
    stable=None,
    retire=None,
    benchmark=None,
    host="127.0.0.1",
    cpus=2,
    memory=None,
    image=None,
    root=manifests.WITHIN,
):
    """Writes what an operator needs for the models on a shelf: what is loaded, batching, monitoring, how to start.

    - `models.config` names the versions that the server loads, and their labels. It is the memory of this function:
      see `choose_versions` for what becomes of it. A server that runs reads it again every ten seconds, so it is
      replaced in one piece.
    - `batching.config` and `monitoring.config`, see `derive_batching`.
    - `compose.yaml` and `kubernetes.yaml` start the server in a container that may write nothing, with limits and
      probes.
    - `SERVING.md` says for people what is loaded, and by which commands a release goes forward and back from there.

    Args:
        shelf: the folder that holds exported models.
        canary, stable, retire: `{name: version}`, see `choose_versions`.
        benchmark: path of a file that `keras-perceiver benchmark --json` printed, for the batching; None for sizes that
            are assumed.
        host: address at which the server can be asked: of this machine alone, unless another is given.
        cpus: processors that the server may use.
        memory: GiB that it may use; None for one, 1.25 for each processor, and four times what the versions that are
            loaded take on the disk.
        image: of the container; None for `tensorflow/serving` of the version of this TensorFlow.
        root: where the server sees the shelf, an absolute path; another than the containers' for a server without one.

    Returns:
        `ServingConfig`.

    Raises:
        InputError: where nothing on the shelf can be served, a step cannot be taken, an argument is illegal, or the
            packages of the extra `serving` are missing; nothing is written then.
    """
    model_server_config_pb2, text_format, yaml = _packages()
    shelf = Path(shelf)
    require(shelf.is_dir(), "`shelf` must be a folder", shelf=str(shelf))
    require_positive(cpus=cpus)
    _require_address(host)
    require(str(root).startswith("/"), "`root` must be an absolute path, as the server sees it", root=root)
    image = image or f"tensorflow/serving:{tf.__version__}"
    legal = re.fullmatch(r"[a-z0-9][a-z0-9._/:@-]*", image) is not None
    require(legal, "`image` must be the name of a container's image", image=image)
    found, notes = find_models(shelf)
    require(bool(found), "`shelf` must hold a SavedModel that keras-perceiver exported", shelf=str(shelf))
    before = _read(shelf / MODELS, model_server_config_pb2, text_format)
    models, said = choose_versions(found, before, canary=canary, stable=stable, retire=retire)
    folders = [shelf / name / str(number) for name, model in models.items() for number in sorted(model.versions)]
    xla = any(XLA in _endpoints(folder, notes) for folder in folders)
    memory = _memory(folders, cpus) if memory is None else memory
    require_positive(memory=memory)
    timings = [] if benchmark is None else read_timings(benchmark, set(models))
    batching = derive_batching(timings, cpus, xla=xla)
    args = manifests.arguments(root, xla=xla)
    read_once = {
        BATCHING: f"{HEADER}# {batching.source}\n{batching.text()}",
        MONITORING: HEADER + manifests.monitoring(),
    }
    settings = hashlib.sha256("".join(read_once.values()).encode()).hexdigest()[:16]
    limits = {"root": root, "image": image, "host": host, "cpus": cpus, "memory": memory, "settings": settings}
    config = _model_server_config(models, root, model_server_config_pb2)
    contents = {
        **read_once,
        COMPOSE: HEADER + _as_yaml([manifests.compose(list(models), args, **limits)], yaml),
        KUBERNETES: HEADER + _as_yaml(manifests.kubernetes(list(models), args, **limits), yaml),
        OPERATING: guide(shelf, found, models, compose=COMPOSE, kubernetes=KUBERNETES),
        MODELS: HEADER + text_format.MessageToString(config),  # last: a server takes it as soon as it is there
    }
    files = {name: shelf / name for name in contents}
    renewed, is_anew = [], files[COMPOSE].exists() and not files[MODELS].exists()
    for name, path in files.items():
        if name not in (MODELS, OPERATING) and path.exists() and path.read_bytes() != contents[name].encode():
            renewed.append(name)
        write_atomically(path, contents[name])  # a server may be reading it
    if renewed:
        said = f"changed: {', '.join(renewed)}"
        notes.append(f"{said}. A server that runs reads {MODELS} alone: start it again with them")
    if is_anew:
        again = f"`docker compose --file {files[COMPOSE]} up --force-recreate --wait`"
        again += f", or `kubectl rollout restart deployment/{manifests.NAME}`"
        notes.append(f"{MODELS} is begun anew. A server that runs may go on with what it has: start it again, {again}")
    notes += [*said, f"batches of at most {batching.max_batch_size} ({batching.source})"]
    if not manifests.is_loopback(host):
        notes.append(f"{host} is reached by others, and the server asks nobody who they are")
    return ServingConfig(files, models, notes)


def parse_versions(option, values):
    """`["NAME=VERSION", ..]` of an option of the command -> `{name: version}`."""
    parsed = {}
    for value in values or ():
        name, _, version = value.rpartition("=")
        legal = bool(name) and re.fullmatch(VERSION, version) is not None and name not in parsed
        require(legal, f"`{option}` must be NAME=VERSION, once for a name", **{option: value})
        parsed[name] = int(version)
    return parsed


def _endpoints(folder, notes):
    """Those that the description of an export names; of none where somebody else has made it."""
    try:
        return read_description(folder, "saved_model").get("endpoints", ())
    except InputError:
        notes.append(f"{folder} was not exported by keras-perceiver; it is served as it is")
        return ()


def _packages():
    """The official protos, their text format, and YAML."""
    try:
        import yaml
        from google.protobuf import text_format
        from tensorflow_serving.config import model_server_config_pb2
    except ImportError as error:
        raise InputError(
            "Files for TensorFlow Serving are written with its protos and PyYAML. "
            f'`pip install "keras-perceiver[serving]"` brings them. {error}'
        ) from error
    return model_server_config_pb2, text_format, yaml


def _as_yaml(documents, yaml):
    """Text without anchors: what several parts share is written out in each, as a person would."""
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
    return yaml.dump_all(documents, Dumper=dumper, sort_keys=False)


def _require_address(host):
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise InputError(f"`host` must be an address such as 127.0.0.1. Received: host={host!r}.") from error


def _read(path, model_server_config_pb2, text_format):
    """`{name: Loaded}` of a `models.config`; of none where there is no such file."""
    if not path.exists():
        return {}
    try:
        config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InputError(
            f"`{path}` must be a ModelServerConfig. {error} Delete it, and start the "
            "server again, to begin anew with the newest versions."
        ) from error
    return {
        one.name: Loaded(set(one.model_version_policy.specific.versions), dict(one.version_labels))
        for one in config.model_config_list.config
    }


def _model_server_config(models, root, model_server_config_pb2):
    config = model_server_config_pb2.ModelServerConfig()
    for name, model in models.items():
        one = config.model_config_list.config.add(name=name, base_path=f"{root}/{name}", model_platform="tensorflow")
        one.model_version_policy.specific.versions.extend(sorted(model.versions))
        for label, version in model.labels.items():
            one.version_labels[label] = version
    return config


def _memory(folders, cpus):
    """GiB: one, 1.25 for each batch, which decodes two pictures at once, and four times what these folders hold."""
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    return math.ceil(1 + 1.25 * cpus + 4 * size / 2**30)
