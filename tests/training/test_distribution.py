"""One model in one process, on two devices and by two workers: the same training."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from keras_perceiver._checks import InputError
from keras_perceiver.data import (
    Lazy,
    Shard,
    Source,
    Split,
    evaluation_dataset,
    load_source,
    mix_batch,
    training_dataset,
)
from keras_perceiver.data.augment import crop_of_files
from keras_perceiver.data.pipeline import part_reader
from keras_perceiver.data.service import running_service, service_reader, through_service
from keras_perceiver.training import Workers, build_strategy, launch, train
from keras_perceiver.training.cluster import Cluster, free_addresses, meet
from keras_perceiver.training.distribution import Poll
from keras_perceiver.training.feeding import file_errors
from tests.pictures import write_pictures

TESTS = Path(__file__).parent.parent
HEARD_WITHIN = 120.0  # seconds in which the loss of a worker is known; ten or so where nothing else runs


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What every process of `tests/distributed.py` ended with, by its name."""
    folder = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, str(TESTS / "distributed.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def assert_equal_to_rounding(ours, theirs):
    """Numbers in nested lists and dictionaries are the same but for the order in which they were summed."""
    one, other = (keras.tree.flatten(values) for values in (ours, theirs))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a == b if isinstance(a, str) else a == pytest.approx(b, rel=2e-5, abs=2e-6)


@pytest.mark.parametrize(("name", "alone"), [("mirrored", "one"), ("worker0", "no_mix"), ("worker1", "no_mix")])
def test_a_model_of_two_replicas_trains_as_one_process_does(ended, name, alone):
    """Losses and accuracies of training and validation, weights, `evaluate` and `predict`.

    The recipe clips gradients and averages weights; on two devices it mixes pictures too. The two workers are those
    that go on where one of them was killed.
    """
    assert len(ended[alone]["rows"]) == 2
    assert ended[alone]["rows"][0]["loss"] != pytest.approx(ended[alone]["rows"][1]["loss"], rel=1e-3)
    for key in ("rows", "weights", "evaluated", "logits", "metrics"):
        assert_equal_to_rounding(ended[name][key], ended[alone][key])


def test_figures_are_those_of_all_examples_and_the_same_on_all_workers(ended):
    """By NumPy from the logits that were gathered: 7 examples, four on one worker and three on the other."""
    first, second = ended["worker0"], ended["worker1"]
    assert first == second
    logits, test = np.array(first["logits"]), distributed_source().splits["test"]
    assert logits.shape == (7, 2)
    accuracy = (logits.argmax(axis=1) == test.labels).mean()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(7), test.labels]).mean()
    for figures in (first["evaluated"], {**first["metrics"], "loss": first["metrics"]["cross_entropy"]}):
        assert figures["accuracy"] == pytest.approx(accuracy)
        assert figures["loss"] == pytest.approx(loss, rel=1e-5)


def distributed_source():
    sys.path.insert(0, str(TESTS))
    try:
        from distributed import source
    finally:
        sys.path.remove(str(TESTS))
    return source()


def test_where_one_of_two_workers_is_killed_the_other_ends_and_both_go_on_when_started_again(ended):
    """Killed behind step 2 of the second epoch, whose checkpoint was the last; that they end as if nobody had been
    killed is tested above."""
    assert ended["codes"]["killed"] == [75, -9]
    assert "another worker has gone" in ended["killed0"]["lost"]
    assert ended["killed0"]["seconds"] < HEARD_WITHIN
    assert ended["codes"]["worker"] == [0, 0]
    assert ended["worker0"]["began"] == ended["worker1"]["began"] == [1, 2]


def test_training_through_a_data_service_is_the_same_to_the_bit(ended):
    """A dispatcher and its worker in a process of their own, which make moved and mixed pictures ready."""
    assert ended["codes"]["served"] == [0]
    assert ended["served"] == ended["one"]


SPLIT = Split(np.arange(23 * 2, dtype=np.uint8).reshape(23, 1, 2), np.arange(23, dtype=np.int32) % 3)


def training_batches(shard, **settings):
    def augment(x, seed):
        return x + tf.random.stateless_uniform(x.shape, seed)

    dataset = training_dataset(
        SPLIT, batch_size=6, num_classes=3, seed=1, num_epochs=2, shard=shard, augment=augment, **settings
    )
    return list(dataset.as_numpy_iterator())


def hide(x, seed):
    return x * tf.random.stateless_uniform((6, 1, 1), seed)


@pytest.mark.parametrize(
    "settings",
    [{}, {"first_epoch": 1, "first_step": 2}, {"hide": hide}],
    ids=["from the start", "from within", "hiding"],
)
@pytest.mark.parametrize("local", [1, 3])
def test_the_parts_of_a_batch_are_together_the_batch_of_one_process(settings, local):
    """Three replicas: in one process, or in three."""
    settings = {"preprocess": lambda x: x, **settings}
    whole = training_batches(Shard(0, 1, 1), **settings)
    parts = [training_batches(Shard(first, local, 3), **settings) for first in range(0, 3, local)]
    assert len(whole) == (1 if "first_step" in settings else 6)
    for number, (x, y) in enumerate(whole):
        of_batch = [part[number * local + i] for part in parts for i in range(local)]
        assert [len(labels) for _, labels in of_batch] == [2, 2, 2]
        np.testing.assert_array_equal(np.concatenate([part for part, _ in of_batch]), x)
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in of_batch]), y)


def test_pictures_of_two_parts_are_mixed_with_each_other_as_in_one_batch():
    split = Split(np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1), np.arange(7, dtype=np.int32))

    def batch(shard):
        settings = {"preprocess": lambda x: x, "mix": mix_batch(mix_up=0.4)}
        dataset = training_dataset(split, batch_size=6, num_classes=7, seed=2, num_epochs=1, shard=shard, **settings)
        return next(dataset.as_numpy_iterator())

    (x, y), *parts = (batch(shard) for shard in (Shard(0, 1, 1), Shard(0, 1, 2), Shard(1, 1, 2)))
    assert ((y > 0).sum(axis=1) == 2).any()
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), x)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in parts]), y)


def test_every_example_is_evaluated_once_and_no_replica_is_ever_without_one():
    settings = {"batch_size": 11, "num_classes": 3, "preprocess": lambda x: x}
    whole = np.concatenate([x for x, _ in evaluation_dataset(SPLIT, **settings).as_numpy_iterator()])
    shards = [Shard(0, 2, 6), Shard(2, 2, 6), Shard(4, 2, 6)]
    parts = [list(evaluation_dataset(SPLIT, shard=s, **settings).as_numpy_iterator()) for s in shards]
    sizes = [[len(y) for _, y in part] for part in parts]
    assert sizes == [[2, 1, 2, 1, 2, 1], [2, 1, 2, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
    joined = []  # as Keras joins what replicas have predicted: the first ones of all workers, then the second ones
    for step in range(3):
        joined += [part[2 * step + replica][0] for replica in range(2) for part in parts]
    np.testing.assert_array_equal(np.concatenate(joined), whole)
    with pytest.raises(InputError, match=r"an example for each replica. Received: examples=23, replicas=9"):
        evaluation_dataset(SPLIT, shard=Shard(0, 1, 9), **settings)


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    with pytest.raises(InputError, match=r"multiple of their number. Received: batch_size=6, replicas=4. Take 4 or 8."):
        training_batches(Shard(0, 1, 4), preprocess=lambda x: x)


TWO = ["10.0.0.1:2222", "10.0.0.2:2222"]


def test_tf_config_names_the_workers_the_chief_first():
    task = {"type": "worker", "index": 1}
    assert Cluster.parsed(json.dumps({"cluster": {"worker": TWO}, "task": task})) == Cluster(tuple(TWO), 1)
    cluster = {"worker": TWO, "chief": ["10.0.0.9:1"]}
    assert Cluster.parsed(json.dumps({"cluster": cluster, "task": task})) == Cluster(("10.0.0.9:1", *TWO), 2)
    task = {"type": "chief", "index": 0}
    assert Cluster.parsed(json.dumps({"cluster": cluster, "task": task})).is_chief


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "by `worker_addresses` and `worker_index` or by TF_CONFIG. Received: TF_CONFIG=''"),
        ("{worker", "TF_CONFIG must be JSON, such as"),
        ("[1]", "must name a cluster and the task"),
        ('{"cluster": {"worker": ["a:1"]}}', "must name a cluster and the task"),
        ('{"task": {"type": "worker", "index": 0}}', "must name a cluster and the task"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "must name a cluster and the task",
        ),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "no jobs but `chief` and `worker`"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "must be HOST:PORT"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "address of its own"),
    ],
)
def test_a_tf_config_that_is_none_is_refused(monkeypatch, text, rule):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=rule):
        build_strategy("multiworker")


@pytest.mark.parametrize(
    ("name", "settings", "rule"),
    [
        ("both", {}, "`distribute` must be one of 'mirrored', 'multiworker'"),
        ("multiworker", {"worker_addresses": TWO}, "`worker_index` must be given with `worker_addresses`"),
        ("multiworker", {"worker_index": 1}, "`worker_addresses` must be given with `worker_index`"),
        ("multiworker", {"worker_addresses": TWO, "worker_index": 2}, "an integer from 0 to 1"),
        ("mirrored", {"worker_index": 1}, "for `--distribute multiworker` alone"),
    ],
)
def test_workers_that_are_named_wrongly_are_refused(name, settings, rule):
    with pytest.raises(InputError, match=rule):
        build_strategy(name, **settings)


@pytest.mark.parametrize("index", [0, 1])
def test_a_peer_that_is_dead_is_named_in_time(index):
    addresses = free_addresses(2)
    rule = "nothing of worker 1" if index == 0 else r"The chief \(worker 0 at"
    with pytest.raises(InputError, match=rule) as raised:
        build_strategy("multiworker", worker_addresses=addresses, worker_index=index, worker_timeout=0.3)
    assert addresses[1 - index] in str(raised.value)


def test_workers_that_all_come_go_on_together_whoever_comes_first():
    cluster, gone_on = free_addresses(3), []

    def come(index):
        meet(Cluster(cluster, index), 20.0)
        gone_on.append(index)

    threads = [threading.Thread(target=come, args=(index,)) for index in (2, 1, 0)]
    for thread in threads:
        assert gone_on == []
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(gone_on) == [0, 1, 2]


def test_a_port_in_use_is_named():
    addresses = free_addresses(2)
    host, port = addresses[0].split(":")
    with socket.create_server((host, int(port))), pytest.raises(InputError, match="able to listen at its address"):
        meet(Cluster(addresses, 0), 0.3)


class ThreeWorkers(Workers):
    """Of three workers this one; the others have half its time and raise no flag but `theirs`."""

    def __init__(self, theirs=0):
        super().__init__()
        self.count, self.theirs, self.asked = 3, theirs, 0

    def counted(self, passed, *flags):
        self.asked += 1
        return [2 * passed, *(flag + self.theirs for flag in flags)]


def test_workers_ask_each_other_about_once_a_second():
    workers = ThreeWorkers()
    poll = Poll(workers)
    for step in range(100):
        poll(0.3 * step, False)  # 0.2 s a step in the mean
    assert workers.asked == pytest.approx(20, abs=3)
    assert poll(40.0, False, True, now=True) == (False, True)
    assert Poll(ThreeWorkers(theirs=1))(0.0, False) == (True,)


class Two:
    """What is looked at of a strategy before anything is built."""

    num_replicas_in_sync = 2
    cluster_resolver = None
    extended = type("Extended", (), {"worker_devices": ("CPU:0", "CPU:1")})


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"dry_run": True}, "`dry_run` must be of one process"),
        ({"recipe": {"jit_compile": True}}, "`jit_compile` must be left out"),
        ({"recipe": {"batch_size": 33}}, "`batch_size`, of all replicas together.*Take 32 or 34"),
        ({"recipe": {"gradient_accumulation_steps": 2}}, "`gradient_accumulation_steps` must be None"),
        ({"recipe": {"steps_per_execution": 2}}, "`steps_per_execution` must be 1"),
        ({"recipe": {"precision": "float16"}}, "`precision` must be 'bfloat16'.*Received: precision='float16'"),
        ({"data_service": "127.0.0.1:1"}, "`data_service` must be the address of a data service that runs"),
        ({"data_service": "here"}, "`data_service` must be HOST:PORT"),
    ],
)
def test_what_several_replicas_cannot_do_is_refused_before_anything_is_written(tmp_path, settings, rule):
    with pytest.raises(InputError, match=rule):
        train("digits", output=tmp_path, strategy=Two(), **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_data_service_reads_upright_jpegs_and_pngs_itself_and_refuses_others(tmp_path):
    write_pictures(tmp_path, {"cat": 20, "dog": 20})
    source = load_source(tmp_path)
    train_split, read = source.splits["train"], service_reader(source)
    for index in (0, 5):
        np.testing.assert_array_equal(read(index, None).numpy(), train_split.examples[index])
    parts = service_reader(source, crop_of_files(0.3))
    for index in (0, 5):
        seed = tf.constant([3, index])
        part = train_split.examples.part(index, crop_of_files(0.3)(seed))
        assert np.abs(parts(index, seed).numpy().astype(int) - part).max() <= 2
    specs = tf.TensorSpec((), tf.int32), tf.TensorSpec((2,), tf.int32)
    here = part_reader(train_split.examples, crop_of_files(0.3))
    graphs = [str(tf.function(read).get_concrete_function(*specs).graph.as_graph_def()) for read in (here, parts)]
    assert ["PyFunc" in graph for graph in graphs] == [True, False], "a service has no Python"
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.open(tmp_path / train_split.names[3]).save(tmp_path / train_split.names[3], exif=turned)
    with pytest.raises(InputError, match=f"1 of {len(train_split)} are others: {train_split.names[3]}"):
        service_reader(source)


def test_examples_that_no_service_decodes_are_sent_or_refused(monkeypatch):
    lazy = Split(Lazy(lambda key: np.zeros((2, 3)), range(7), (2, 3), np.uint8), np.zeros(7, np.int32))
    source = Source("sounds", "audio", ("a", "b"), {"train": lazy})
    assert service_reader(source) is None
    monkeypatch.setattr("keras_perceiver.data.service.MAX_SENT_BYTES", 7 * 6 - 1)
    with pytest.raises(InputError, match=r"by TensorFlow's operators alone.*Received: modality='audio', bytes=42"):
        service_reader(source)


def test_a_second_worker_of_a_data_service_is_noticed():
    """Both would make the whole data set: twice as many batches, in any order."""
    numbers = tf.data.Dataset.range(1000)
    service = tf.data.experimental.service
    with running_service(0) as address:
        assert list(through_service(numbers, address).as_numpy_iterator()) == list(range(1000))
        (free,) = free_addresses(1)
        second = service.WorkerServer(service.WorkerConfig(address, free, int(free.rpartition(":")[2])))
        with pytest.raises(InputError, match="A data service must have one worker"), file_errors():
            list(through_service(numbers, address).as_numpy_iterator())
        second.stop()


TELL = "import json, os, sys; c = json.loads(os.environ['TF_CONFIG']); i = c['task']['index']; \
print(len(c['cluster']['worker']), i, flush=True); sys.exit(int(sys.argv[1 + i]))"


@pytest.mark.parametrize(("codes", "code"), [("00", 0), ("02", 2), ("31", 1)])
def test_a_launcher_starts_workers_that_know_each_other_and_ends_with_their_code(codes, code, capfd):
    assert launch(list(codes), num_workers=2, command=(sys.executable, "-c", TELL)) == code
    printed = capfd.readouterr()
    assert printed.out == "2 0\n"
    assert printed.err == "worker 1 | 2 1\n"


def test_a_launcher_ends_the_others_where_one_fails(monkeypatch):
    monkeypatch.setattr("keras_perceiver.training.launcher.GRACE_SECONDS", 0.3)
    script = "import os, sys, time; sys.exit(2) if '\"index\": 1' in os.environ['TF_CONFIG'] else time.sleep(60)"
    assert launch(["x"], command=(sys.executable, "-c", script)) == 2
