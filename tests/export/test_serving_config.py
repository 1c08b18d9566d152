"""Files for operators: what a server loads step by step, text protos by the official messages, manifests as YAML."""

import itertools
import json
import re
import shutil
import subprocess

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig
from typer.testing import CliRunner

from keras_perceiver._checks import InputError
from keras_perceiver.cli import app
from keras_perceiver.export import client, parse_versions, write_serving_config
from keras_perceiver.export.batching import derive_batching
from keras_perceiver.export.endpoints import XLA
from keras_perceiver.export.loaded_versions import Loaded, choose_versions, next_steps
from keras_perceiver.export.warm_up import BATCH_SIZES

FOUND = {"animals": [1, 2, 3]}
FIELD = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(scope="module")
def protos():
    """`BatchingParameters` and `MonitoringConfig` of TensorFlow Serving, which its package of protos leaves out.

    Names, numbers and types of their fields, as session_bundle_config.proto and monitoring_config.proto have them.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    batching = file.message_type.add(name="BatchingParameters")
    wrapped = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]
    for number, name in enumerate(wrapped, start=1):
        kind = ".google.protobuf.Int64Value"
        batching.field.add(name=name, number=number, type=FIELD.TYPE_MESSAGE, type_name=kind, label=1)
    batching.field.add(name="allowed_batch_sizes", number=6, type=FIELD.TYPE_INT64, label=3)
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=FIELD.TYPE_BOOL, label=1)
    prometheus.field.add(name="path", number=2, type=FIELD.TYPE_STRING, label=1)
    monitoring = file.message_type.add(name="MonitoringConfig")
    kind = ".serving.PrometheusConfig"
    monitoring.field.add(name="prometheus_config", number=1, type=FIELD.TYPE_MESSAGE, type_name=kind, label=1)
    pool.Add(file)
    names = ("BatchingParameters", "MonitoringConfig")
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"serving.{name}")) for name in names]


@pytest.fixture
def shelf(exported, tmp_path):
    """A shelf with versions 1 and 2 of one model, and with what a server is not to be told of."""
    for version in "12":
        shutil.copytree(exported[1].folder, tmp_path / "shelf" / "animals" / version)
    home = tmp_path / "shelf"
    (home / "animals" / ".unfinished-x").mkdir()
    (home / "animals-litert" / "1").mkdir(parents=True)
    (home / "animals-litert" / "1" / "model.tflite").write_bytes(b"file")
    (home / "outside").symlink_to(exported[1].folder.parent)
    (home / "animals" / "3").symlink_to(exported[1].folder)
    (home / "empty" / "1").mkdir(parents=True)
    (home / "a b").mkdir()
    return home


def test_a_release_goes_forward_and_back_one_step_at_a_time():
    models, notes = choose_versions({"animals": [1]}, {})
    assert models == {"animals": Loaded({1}, {"stable": 1})}
    models, notes = choose_versions(FOUND, models)
    assert models["animals"].versions == {1}
    assert "`--canary animals=3` would" in notes[0]
    models, _ = choose_versions(FOUND, models, canary={"animals": 3})
    assert models == {"animals": Loaded({1, 3}, {"stable": 1, "canary": 3})}
    models, _ = choose_versions(FOUND, models, stable={"animals": 3})
    assert models == {"animals": Loaded({1, 3}, {"stable": 3})}
    models, _ = choose_versions(FOUND, models, stable={"animals": 1})
    assert models == {"animals": Loaded({1, 3}, {"stable": 1})}
    models, _ = choose_versions(FOUND, models, retire={"animals": 3})
    assert models == {"animals": Loaded({1}, {"stable": 1})}
    assert choose_versions(FOUND, {}, stable={"animals": 2})[0] == {"animals": Loaded({2}, {"stable": 2})}


def test_a_label_never_goes_to_a_version_that_a_server_has_not_loaded():
    """A server drops a whole list in which a label that it knows goes to a version that is not there."""
    before = {"animals": Loaded({1}, {"stable": 1})}
    seen = [before]
    for steps in itertools.product(("canary", "stable", "retire"), (1, 2, 3), repeat=3):
        models = before
        for step, version in zip(steps[::2], steps[1::2], strict=True):
            try:
                after, _ = choose_versions(FOUND, models, **{step: {"animals": version}})
            except InputError:
                continue
            for label, number in after["animals"].labels.items():
                was = models["animals"].labels.get(label, number)
                assert was == number or number in models["animals"].versions
            assert after["animals"].labels["stable"] in after["animals"].versions
            models = after
            seen.append(after)
    assert {tuple(sorted(m["animals"].versions)) for m in seen} >= {(1,), (1, 2), (1, 3), (1, 2, 3)}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"stable": {"animals": 2}}, r"must be loaded before it is stable.*`--canary animals=2` loads it"),
        ({"canary": {"animals": 9}}, r"must lie on the shelf.*version=9"),
        ({"canary": {"animals": 1}}, "must not be stable already"),
        ({"retire": {"animals": 1}}, "must not be retired"),
        ({"retire": {"animals": 2}}, "must be loaded to be retired"),
        ({"canary": {"../animals": 2}}, r"must lie on the shelf.*Did you mean 'animals'"),
        ({"canary": {"animals": 2}, "retire": {"animals": 2}}, "one step at a time"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused(steps, message):
    with pytest.raises(InputError, match=message):
        choose_versions(FOUND, {"animals": Loaded({1}, {"stable": 1})}, **steps)


def test_what_has_gone_from_the_shelf_is_said_and_a_stable_version_is_missed():
    before = {"animals": Loaded({1, 2}, {"stable": 1, "canary": 2}), "plants": Loaded({1}, {"stable": 1})}
    models, notes = choose_versions({"animals": [1]}, before)
    assert models == {"animals": Loaded({1}, {"stable": 1})}
    assert notes == ["plants has gone from the shelf", "animals: version 2 has gone"]
    with pytest.raises(InputError, match=r"stable version of 'animals' must lie on the shelf.*versions=\[2\]"):
        choose_versions({"animals": [2]}, before)


def test_files_say_the_same_and_are_what_the_server_reads(shelf, protos):
    batching_parameters, monitoring_config = protos
    first = write_serving_config(shelf)
    assert sorted(p.name for p in shelf.iterdir() if p.is_file()) == sorted(first.files)
    notes = "\n".join(first.notes)
    for part in ("outside. It must not be a link", "a b", "empty. It holds no version", "version 2 is stable"):
        assert part in notes
    assert "litert" not in notes
    config = text_format.Parse((shelf / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("animals", "/models/animals", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [2]
    assert dict(model.version_labels) == {"stable": 2}
    write_serving_config(shelf, canary={"animals": 1})
    after = text_format.Parse((shelf / "models.config").read_text(), ModelServerConfig())
    assert list(after.model_config_list.config[0].model_version_policy.specific.versions) == [1, 2]
    assert dict(after.model_config_list.config[0].version_labels) == {"stable": 2, "canary": 1}
    batching = text_format.Parse((shelf / "batching.config").read_text(), batching_parameters())
    assert batching.max_batch_size.value >= max(client.BATCH, *BATCH_SIZES)  # or requests of ours would be refused
    assert list(batching.allowed_batch_sizes) == []  # without XLA, filling up is work for nothing
    monitoring = text_format.Parse((shelf / "monitoring.config").read_text(), monitoring_config())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_manifests_are_closed_and_limited_and_agree(shelf):
    write_serving_config(shelf, cpus=3, memory=5, image="registry.example/serving:1")
    service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    (volume,) = service["volumes"]
    assert volume["read_only"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] != "0:0"
    assert service["deploy"]["resources"]["limits"] == {"cpus": "3", "memory": "5g"}
    policy, address, deployment = yaml.safe_load_all((shelf / "kubernetes.yaml").read_text())
    kinds = [document["kind"] for document in (policy, address, deployment)]
    assert kinds == ["NetworkPolicy", "Service", "Deployment"]
    assert policy["spec"]["ingress"] == []
    pod = deployment["spec"]["template"]
    for selector in (policy["spec"]["podSelector"]["matchLabels"], address["spec"]["selector"]):
        assert selector.items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert container["args"] == service["command"]
    assert container["image"] == service["image"] == "registry.example/serving:1"
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "3", "memory": "5Gi"}
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["shelf"]["readOnly"]
    assert mounts["shelf"]["mountPath"] == volume["target"]
    assert set(mounts) == {v["name"] for v in pod["spec"]["volumes"]}
    paths = [argument.split("=")[1] for argument in service["command"] if argument.endswith(".config")]
    assert len(paths) == 3
    assert all((shelf / path.removeprefix("/models/")).is_file() for path in paths)
    assert not any("xla" in argument for argument in service["command"])
    opened = write_serving_config(shelf, host="0.0.0.0")
    assert any("0.0.0.0 is reached by others" in note for note in opened.notes)
    assert (
        yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]["ports"][0] == "0.0.0.0:8500:8500"
    )
    policy = next(yaml.safe_load_all((shelf / "kubernetes.yaml").read_text()))
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_an_endpoint_by_xla_is_allowed_and_batches_are_no_larger_than_it_compiles_for(shelf, protos):
    description = shelf / "animals" / "2" / "assets.extra" / "perceiver.json"
    content = json.loads(description.read_text())
    content["endpoints"].append(XLA)
    description.write_text(json.dumps(content))
    written = write_serving_config(shelf)
    service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
    assert "--xla_cpu_compilation_enabled=true" in service["command"]
    assert not any("start it again" in note for note in written.notes)
    batching = text_format.Parse((shelf / "batching.config").read_text(), protos[0]())
    assert list(batching.allowed_batch_sizes) == []  # an empty batch, padded, would end the server
    assert batching.max_batch_size.value == BATCH_SIZES[-1]


def test_the_probe_asks_for_every_model_by_its_stable_version(shelf, rest_status):
    """The command of the image's bash, on this machine's, against a double of what the server says of a label."""
    shutil.copytree(shelf / "animals", shelf / "plants")
    write_serving_config(shelf, root=str(shelf))
    service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
    kind, *command = service["healthcheck"]["test"]
    assert not any(re.search(r"(?<!\$)(\$\$)*\$(?!\$)", part) for part in command)  # Compose would look for a variable
    command[-1] = command[-1].replace("$$", "$").replace("/8501", f"/{rest_status.port}")
    *_, deployment = yaml.safe_load_all((shelf / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    of_kubernetes = container["readinessProbe"]["exec"]["command"]  # where nothing is put in place of `$name`
    assert [part.replace("/8501", f"/{rest_status.port}") for part in of_kubernetes] == command
    assert kind == "CMD"
    paths = [f"/v1/models/{name}/labels/stable/metadata" for name in ("animals", "plants")]
    assert subprocess.run(command, timeout=20).returncode == 0
    assert rest_status.asked == paths
    for missing in paths:
        rest_status.missing = {missing}
        assert subprocess.run(command, timeout=20).returncode != 0
    shutil.rmtree(shelf / "plants")  # and a server that runs looks at models.config again, not at its probe
    rest_status.asked.clear()
    write_serving_config(shelf, root=str(shelf))
    assert subprocess.run(command, timeout=20).returncode == 0
    assert rest_status.asked == paths[:1]


def test_what_can_be_done_next_is_written_down_and_can_be_done(shelf):
    """Forward to version 2 and back, each time by the command that SERVING.md names."""

    def commands():
        lines = (shelf / "SERVING.md").read_text().splitlines()
        return [line.partition("    #")[0] for line in lines if line.startswith("keras-perceiver serve-config")]

    write_serving_config(shelf)
    assert commands() == []  # the newest is loaded at first
    (shelf / "models.config").unlink()
    shutil.move(shelf / "animals" / "2", shelf / ".elsewhere")
    write_serving_config(shelf)
    shutil.move(shelf / ".elsewhere", shelf / "animals" / "2")
    write_serving_config(shelf)
    for option, others in (("--canary", []), ("--stable", ["--retire"]), ("--stable", ["--retire"])):
        before, found = (shelf / "models.config").read_text(), [command.split()[2:] for command in commands()]
        assert [words[2] for words in found] == [option, *others]
        assert all(words[:2] == ["--shelf", str(shelf)] for words in found)
        for _, _, option, step in reversed(found):  # each of them can be taken; the first is gone on from
            (shelf / "models.config").write_text(before)
            write_serving_config(shelf, **{option.removeprefix("--"): parse_versions(option, [step])})
    assert "| `animals` | 1, 2 | `stable` 1 | 1, 2 |" in (shelf / "SERVING.md").read_text()


def test_no_second_canary_is_spoken_of_beside_a_first():
    model = Loaded({1, 2}, {"stable": 1, "canary": 2})
    assert [step[:2] for step in next_steps([1, 2, 3], model)] == [("--stable", 2), ("--retire", 2)]
    _, notes = choose_versions({"animals": [1, 2, 3]}, {"animals": model})
    assert notes == []
    assert [step[:2] for step in next_steps([1, 3], Loaded({1}, {"stable": 1}))] == [("--canary", 3)]


def test_what_a_running_server_does_not_read_again_is_said(shelf):
    assert not any("start it again" in note for note in write_serving_config(shelf, stable={"animals": 1}).notes)
    assert not any("start it again" in note for note in write_serving_config(shelf, canary={"animals": 2}).notes)
    changed = "changed: batching.config, compose.yaml, kubernetes.yaml. A server that runs reads models.config alone"
    assert any(changed in note for note in write_serving_config(shelf, cpus=3).notes)
    assert not any("is begun anew" in note for note in write_serving_config(shelf, cpus=3).notes)
    (shelf / "models.config").unlink()
    (said,) = [note for note in write_serving_config(shelf, cpus=3).notes if "models.config is begun anew" in note]
    assert "up --force-recreate" in said
    *_, deployment = yaml.safe_load_all((shelf / "kubernetes.yaml").read_text())
    assert f"kubectl rollout restart deployment/{deployment['metadata']['name']}`" in said


def test_docker_and_kubernetes_see_that_what_a_server_reads_once_has_changed(shelf, tmp_path):
    """They look at their own files alone; here nothing but the batches is another."""
    report, found = tmp_path / "benchmark.json", []
    for size in (64, 128, 64):
        report.write_text(json.dumps([timing("animals", 1, 100), timing("animals", size, 900)]))
        written = write_serving_config(shelf, benchmark=report)
        assert f"batches of at most {size} (benchmark)" in written.notes
        service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
        *_, deployment = yaml.safe_load_all((shelf / "kubernetes.yaml").read_text())
        seen = deployment["spec"]["template"]["metadata"]["annotations"]
        assert service["labels"]["keras-perceiver.settings"] == seen["keras-perceiver/settings"]
        found.append((service, deployment))
    assert found[0] == found[2]
    for before, after in zip(*found[:2], strict=True):
        assert before != after


def test_the_containers_see_the_shelf_where_the_server_looks_for_it(shelf):
    write_serving_config(shelf, root="/srv/shelf")
    service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
    assert service["volumes"][0]["target"] == "/srv/shelf"
    *_, deployment = yaml.safe_load_all((shelf / "kubernetes.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["volumeMounts"][0]["mountPath"] == "/srv/shelf"
    assert "--model_config_file=/srv/shelf/models.config" in container["args"]
    with pytest.raises(InputError, match="`root` must be an absolute path"):
        write_serving_config(shelf, root="saved_models")


def test_memory_has_room_for_two_pictures_of_each_batch_that_is_decoded(shelf):
    limits = []
    for cpus in (2, 16):
        write_serving_config(shelf, cpus=cpus)
        service = yaml.safe_load((shelf / "compose.yaml").read_text())["services"]["serving"]
        limits.append(service["deploy"]["resources"]["limits"])
    assert [limit["memory"] for limit in limits] == ["4g", "22g"]


def timing(model, batch_size, rate, threads=2, runtime="tensorflow 2"):
    median = 1000 * batch_size / rate
    known = {"model": f"saved_models/{model}/1", "runtime": runtime, "threads": threads, "batch_size": batch_size}
    return {**known, "median": median, "p90": median, "p99": median, "calls": 10, "examples_per_second": float(rate)}


def test_batching_follows_what_was_measured():
    """By hand: 32 reach 95 % of the best rate; half of 10 ms alone; a second's batches of 32 at 400 a second."""
    rates = {1: 100, 8: 300, 32: 400, 64: 410}
    rows = [timing("animals", size, rate) for size, rate in rates.items()]
    rows += [timing("animals", size, 10 * rate, threads=16) for size, rate in rates.items()]  # more than there are
    found = derive_batching(rows, 2, xla=False)
    assert (found.max_batch_size, found.wait_microseconds, found.queue, found.threads) == (32, 5000, 12, 2)
    rows += [timing("plants", size, rate) for size, rate in {1: 1000, 128: 2000}.items()]
    found = derive_batching(rows, 2, xla=False)
    assert (found.max_batch_size, found.wait_microseconds) == (128, 500)
    compiled = derive_batching(rows, 2, xla=True)
    assert compiled.max_batch_size == BATCH_SIZES[-1], "a size without a request of the warm-up is not compiled"
    flat = derive_batching([timing("animals", size, 50) for size in (1, 8)], 2, xla=False)
    assert flat.max_batch_size == client.BATCH


def test_a_report_of_benchmark_is_read_and_another_file_refused(shelf, tmp_path):
    report = tmp_path / "benchmark.json"
    rows = [
        timing("animals", 1, 100),
        timing("animals", 64, 900),
        timing("animals", 128, 5000, runtime="ai_edge_litert"),
    ]
    report.write_text(json.dumps(rows))
    written = write_serving_config(shelf, benchmark=report)
    assert "batches of at most 64 (benchmark)" in written.notes
    kept = (shelf / "models.config").read_text()
    for content in ("[1]", "{", json.dumps([timing("plants", 1, 100)]), json.dumps([timing("animals", 1, -100)])):
        report.write_text(content)
        with pytest.raises(InputError, match=r"`benchmark` must|must be above 0"):
            write_serving_config(shelf, benchmark=report)
    assert (shelf / "models.config").read_text() == kept


def test_what_is_illegal_is_refused_and_nothing_written(shelf, tmp_path):
    (tmp_path / "bare").mkdir()
    for arguments, message in (
        ({"shelf": tmp_path / "bare"}, "must hold a SavedModel"),
        ({"shelf": tmp_path / "nowhere"}, "`shelf` must be a folder"),
        ({"host": "localhost; rm"}, "`host` must be an address"),
        ({"cpus": 0}, "cpus=0"),
        ({"image": "a b"}, "`image` must be"),
        ({"canary": {"animals": 7}}, "version=7"),
    ):
        with pytest.raises(InputError, match=message):
            write_serving_config(**{"shelf": shelf, **arguments})
    assert not (shelf / "models.config").exists()
    assert not list((tmp_path / "bare").iterdir())
    (shelf / "models.config").write_text("nonsense {")
    with pytest.raises(InputError, match="Delete it, and start the server again, to begin anew"):
        write_serving_config(shelf)


def test_the_command_takes_names_with_versions(shelf):
    run = CliRunner()
    result = run.invoke(app, ["serve-config", "--shelf", str(shelf), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["models"] == {"animals": {"versions": [2], "labels": {"stable": 2}}}
    result = run.invoke(app, ["serve-config", "--shelf", str(shelf), "--canary", "animals=1"])
    assert "1, 2" in result.stdout
    for value in ("animals", "animals=x", "=1", "../animals=1"):
        result = run.invoke(app, ["serve-config", "--shelf", str(shelf), "--stable", value])
        assert result.exit_code == 2, value
