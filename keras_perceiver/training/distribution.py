"""Training on several devices and machines: TensorFlow's strategies, as `model.fit` of Keras 3 can use them."""

import json
from contextlib import contextmanager, nullcontext

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_one_of
from keras_perceiver.data.pipeline import WHOLE, Shard
from keras_perceiver.training.cluster import WAIT_SECONDS, Cluster, meet
from keras_perceiver.training.stopping import Stopped, give_back_signals

STRATEGIES = ("mirrored", "multiworker")


class WorkerLost(Stopped):
    """Another worker of a run has gone, so that this one cannot go on."""


class _KerasReductions:
    """Answers to what Keras asks a strategy for, and TensorFlow's own do not know."""

    def reduce(self, reduce_op, value, axis):
        """As `tf.distribute.Strategy.reduce`; a structure gives the part of the first local replica."""
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(lambda v: self.experimental_local_results(v)[0], value)
        if axis is not None and value.shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)


class MultiWorkerStrategy(_KerasReductions, tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` with which `fit`, `evaluate` and `predict` of Keras 3 work.

    Keras asks TensorFlow's for two things that it does not know: to reduce a whole batch, of which Keras wants but the
    shapes, and to reduce scalars over an axis. Here a structure gives this worker's own part of it, and scalars are
    reduced over the replicas::

        strategy = MultiWorkerStrategy()  # the first thing that a program does with TensorFlow
        with strategy.scope():
            model = build_classifier(..)
            model.compile(..)
        model.fit(..)

    The workers wait for each other when it is made. TensorFlow's servers listen on all interfaces of a machine, and ask
    nobody who they are: train in a network that you trust.

    Args:
        addresses: "HOST:PORT" of each worker, the chief's first; None for those of the environment variable TF_CONFIG.
        index: of this process among them; None with TF_CONFIG.
        timeout: seconds to wait for the others.
        communication_options: see `tf.distribute.experimental.CommunicationOptions`.

    Raises:
        InputError: where addresses or TF_CONFIG are illegal, or not all workers come in time.
    """

    def __init__(self, addresses=None, index=None, *, timeout=WAIT_SECONDS, communication_options=None):
        cluster = Cluster.found(addresses, index)
        meet(cluster, timeout)
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
            task_type="worker",
            task_id=cluster.index,
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
            rpc_layer="grpc",
        )
        super().__init__(resolver, communication_options)
        give_back_signals()  # TensorFlow has taken SIGTERM


class MirroredStrategy(_KerasReductions, tf.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy` which Keras 3 can feed with batches of unequal parts, see `MultiWorkerStrategy`.

    Args:
        devices: names; None for all GPUs of this machine, where there is none for its (logical) CPUs.
        cross_device_ops: see `tf.distribute.MirroredStrategy`.
    """

    def __init__(self, devices=None, cross_device_ops=None):
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        super().__init__(devices or [device.name for device in found], cross_device_ops)


def build_strategy(name, *, worker_addresses=None, worker_index=None, worker_timeout=WAIT_SECONDS):
    """A strategy by its name in `STRATEGIES`; of several workers see `MultiWorkerStrategy`."""
    require_one_of(STRATEGIES, distribute=name)
    if name == "multiworker":
        return MultiWorkerStrategy(worker_addresses, worker_index, timeout=worker_timeout)
    given = {"worker_addresses": worker_addresses, "worker_index": worker_index}
    given = {key: value for key, value in given.items() if value is not None}
    require(not given, "Workers must be named for `--distribute multiworker` alone", distribute=name, **given)
    return MirroredStrategy()


class Workers:
    """The processes that train one model, and what they have to say to each other.

    All must call the same methods in the same order. What concerns files the chief does for all.

    Args:
        strategy: a `tf.distribute.Strategy`; None for one process without any.

    Attributes:
        count: of processes.
        is_chief: whether this is the first one.
        shard: the `Shard` of the data that this process feeds to its replicas.
    """

    def __init__(self, strategy=None):
        self.strategy = strategy
        self.shard = WHOLE
        if strategy is not None:
            local, total = len(strategy.extended.worker_devices), strategy.num_replicas_in_sync
            self.shard = Shard(_index(strategy) * local, local, total)
        self.count = self.shard.total // self.shard.local
        self.is_chief = self.shard.first == 0

    def scope(self):
        """Where a model for these workers must be built and compiled."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def distributed(self, dataset, *, repeat=False):
        """A data set that was made with this `shard` as `fit`, `evaluate` and `predict` take it.

        One of which all is seen again and again (`repeat`) never ends: their steps must be given.
        """
        if self.strategy is None:
            return dataset
        dataset = dataset.repeat() if repeat else dataset
        # All workers have the same number of batches: they need not ask each other before each step.
        extended = self.strategy.extended
        extended.experimental_enable_get_next_as_optional = False
        try:
            return self.strategy.distribute_datasets_from_function(lambda _: dataset)
        finally:
            extended.experimental_enable_get_next_as_optional = True

    def agree(self, *flags):
        """For each flag whether any worker has raised it."""
        return tuple(count > 0 for count in self.counted(*flags))

    def counted(self, *numbers):
        """The sum of each integer over the workers."""
        return numbers if self.count == 1 else self._sum(np.array(numbers, np.int64)).tolist()

    def by_chief(self, function):
        """What a function without arguments returns on the chief, which alone calls it; must be fit for JSON.

        Raises:
            InputError: on all workers, where the function raises one.
        """
        if self.count == 1:
            return function()
        said = {}
        if self.is_chief:
            try:
                said["value"] = function()
            except InputError as error:
                said["error"] = str(error)
        heard = json.loads(self.from_chief(json.dumps(said).encode()))
        if "error" in heard:
            raise InputError(heard["error"])
        return said["value"] if self.is_chief else heard["value"]

    def from_chief(self, content):
        """The chief's bytes, on all workers."""
        if self.count == 1:
            return content
        content = content if self.is_chief else b""
        (length,) = self._sum(np.array([len(content)], np.int64))
        words = np.zeros(-(-int(length) // 8), np.int64)
        words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        return self._sum(words).tobytes()[: int(length)]

    def require_same(self, **values):
        """Requires values that are fit for JSON to be the chief's on all workers."""
        chief = json.loads(self.from_chief(json.dumps(values).encode()))
        own = json.loads(json.dumps(values))
        differing = [name for name in own if own[name] != chief[name]]
        if not any(self.agree(bool(differing))):
            return
        said = f" On worker {self.shard.first // self.shard.local} it differs in {differing}." if differing else ""
        raise InputError(f"All workers must be started with the same command, on the same data.{said}")

    def _sum(self, array):
        """The sum of the workers' arrays; int64, which a GPU and the network know as well."""
        return self.strategy.reduce("SUM", tf.constant(array), axis=None).numpy()

    @contextmanager
    def held_together(self):
        """Within this block the loss of another worker is a `WorkerLost`."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.count == 1 or "ollective" not in str(error):
                raise
            raise WorkerLost(
                "another worker has gone: start all of them again, the same command goes on from the newest checkpoint"
            ) from error


def _index(strategy):
    """The number of this process among the workers of a strategy."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return 0
    before = resolver.cluster_spec().as_dict().get("chief", []) if resolver.task_type == "worker" else []
    return len(before) + resolver.task_id


class Poll:
    """Asks all workers about once a second whether any has raised a flag: a step is not held up for it.

    Which step it is the workers know alike: from the mean of the time that they took since the last one.

    Args:
        workers: `Workers`.
        seconds: between two questions.
    """

    def __init__(self, workers, seconds=1.0):
        self.workers, self.seconds = workers, seconds
        self._steps, self._interval, self._elapsed = 0, 1, None

    def __call__(self, clock, *flags, now=False):
        """For each flag whether any worker has raised it; False in between, unless asked `now`.

        One process alone is asked each time. `clock` are seconds of a clock of this process.
        """
        if self.workers.count == 1:
            return flags
        self._steps += 1
        if not now and self._steps < self._interval:
            return (False,) * len(flags)
        passed = 0.0 if self._elapsed is None else clock - self._elapsed
        total, *raised = self.workers.counted(round(passed * 1e6), *flags)
        if total:
            mean = total / self.workers.count / 1e6
            self._interval = max(1, int(self._steps * self.seconds / mean))
        self._steps, self._elapsed = 0, clock
        return tuple(count > 0 for count in raised)


def clip_whole_gradients(optimizer):
    """Makes a Keras optimizer clip the gradients of the whole batch, as one process would.

    Keras clips what each replica has before it is summed: the norm of a part, of a loss that is divided by the number
    of replicas. Here gradients are summed over the replicas first; the sum is clipped, and each replica hands on its
    equal part of it. Without clipping nothing changes.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not (inner.clipnorm or inner.global_clipnorm or inner.clipvalue):
        return
    clip = inner._clip_gradients

    def clip_sum(gradients):
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return clip(gradients)
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        return [gradient / context.num_replicas_in_sync for gradient in clip(whole)]

    inner._clip_gradients = clip_sum
