"""Training data that another process or machine makes ready: tf.data's service, in the order of one process."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from PIL import ExifTags, Image

from keras_perceiver._checks import InputError, require
from keras_perceiver.data.decoding import decode_part
from keras_perceiver.data.examples import Lazy
from keras_perceiver.data.files import open_regular
from keras_perceiver.data.images import MAX_FILE_BYTES
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.reports import some_of

CONNECT_SECONDS = 5.0
MAX_SENT_BYTES = 2**28  # 256 MiB: examples that no service can decode are sent to it, decoded
UPRIGHT = 1  # of the orientations of EXIF
FORMATS = ("JPEG", "PNG")  # that TensorFlow's operators decode as Pillow does
OTHERS = ("GIF", "BMP", "WEBP")


def require_service(address):
    """Requires somebody to listen at the address of a data service, "HOST:PORT"."""
    host, _, port = str(address).rpartition(":")
    require(bool(host) and port.isdecimal(), "`data_service` must be HOST:PORT", data_service=address)
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"`data_service` must be the address of a data service that runs. ({error}) "
            f"Received: data_service={address!r}. `keras-perceiver data-service` starts one."
        ) from error


def service_reader(source, crop=None):
    """How a data service reads the training examples of a source: a function of an index and a seed, or None for an
    array.

    A service is another process: of what makes an example ready it gets TensorFlow's operators, and no Python. Pictures
    in a folder it reads and decodes itself, and needs the same folder at the same path; with `crop`, see
    `part_reader`, parts of them. An array is sent to it.

    Raises:
        InputError: where no operators decode the files as they are decoded without a service, and there are too many
            of them to be sent.
    """
    split = source.splits["train"]
    if not isinstance(split.examples, Lazy):
        return None
    folder = Path(source.data) if source.data else None
    if source.modality == "image" and folder is not None and folder.is_dir():
        return _picture_reader(source, folder, crop)
    require(
        split.examples.nbytes <= MAX_SENT_BYTES,
        "A data service must decode examples by TensorFlow's operators alone, which is written for folders of JPEG and "
        f"PNG pictures; of others at most {MAX_SENT_BYTES:,} bytes are decoded first and sent to it",
        modality=source.modality,
        bytes=split.examples.nbytes,
        repair="Train without `data_service`.",
    )
    return None


def _picture_reader(source, folder, crop):
    names = source.splits["train"].names
    unfit = [name for name in names if not _is_decoded_alike(folder / name)]
    require(
        not unfit,
        "A data service must be given JPEG and PNG pictures that are stored upright: others are not decoded there as "
        f"they are here. {len(unfit):,} of {len(names):,} are others: {some_of(unfit)}",
        repair="Turn or convert them, or train without `data_service`.",
    )
    shape = source.example_shape
    decode, _ = MODALITIES[source.modality].decoder(shape)
    paths = tf.constant([os.fspath(folder / name) for name in names])

    def read(index, seed):
        encoded = tf.io.read_file(paths[index])
        image = decode(encoded)[0]["image"][0] if crop is None else decode_part(encoded, shape, crop(seed).box)
        return tf.cast(image, tf.uint8)

    return read


def _is_decoded_alike(path):
    with (
        open_regular(path, MAX_FILE_BYTES) as file,
        Image.open(file, formats=(*FORMATS, *OTHERS)) as image,
    ):
        return image.format in FORMATS and image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT


def through_service(dataset, address):
    """A data set as a data service makes it: the same elements in the same order, which is looked after.

    Args:
        dataset: `tf.data.Dataset` without functions of Python's.
        address: "HOST:PORT" of a service with one worker: several would each make all of it.
    """
    service = tf.data.experimental.service
    served = dataset.enumerate().apply(
        service.distribute(processing_mode=service.ShardingPolicy.OFF, service=f"grpc://{address}")
    )

    def checked(expected, numbered):
        number, element = numbered
        said = "InputError: A data service must have one worker: batches come out of order."
        with tf.control_dependencies([tf.debugging.assert_equal(number, expected, said)]):
            return tf.nest.map_structure(tf.identity, element)

    return served.enumerate().map(checked)


@contextmanager
def running_service(port, host="127.0.0.1", worker_port=0):
    """Within its block, a dispatcher at that port and its one worker make data sets ready for whoever asks.

    Args:
        port: of the dispatcher; 0 for a free one.
        host: name by which clients find the worker. (TensorFlow's servers listen on all interfaces, and ask nobody who
            they are: only in a network that you trust.)
        worker_port: of the worker; 0 for a free one.

    Yields:
        "HOST:PORT" for clients.

    Raises:
        InputError: where a port is in use.
    """
    service = tf.data.experimental.service
    try:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
        dispatcher_port = dispatcher.target.rpartition(":")[2]
        config = service.WorkerConfig(f"127.0.0.1:{dispatcher_port}", f"{host}:%port%", worker_port)
        worker = service.WorkerServer(config)
    except tf.errors.OpError as error:
        raise InputError(
            f"The ports of a data service must be free. Received: port={port}. ({error.message})"
        ) from error
    try:
        yield f"{host}:{dispatcher_port}"
    finally:
        worker.stop()
        dispatcher._stop()
