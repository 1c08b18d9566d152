"""The requests that TensorFlow Serving plays to a model before it takes others.

A file of TFRecords, each a `PredictionLog`. The messages are put together here from the numbers of their fields, so
that every export has them, whether the package of TensorFlow Serving's protos is installed or not; a test reads them
with it.
"""

import tensorflow as tf

WARM_UP = "tf_serving_warmup_requests"  # in `assets.extra/`
BATCH_SIZES = (1, 4, 16)


def write_warm_up(path, name, served, endpoints):
    """Writes one request for each endpoint and batch size. They hold zeros and nobody's data."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for endpoint in endpoints:
            for size in BATCH_SIZES:
                writer.write(_prediction_log(name, endpoint, _inputs(served, endpoint, size)))


def _inputs(served, endpoint, size):
    """`{input: TensorProto}` of a batch of zeros, nothing masked; one number stands for all of an array."""
    if endpoint == "from_bytes":
        nothing = {name: tf.zeros(shape, dtype) for name, (shape, dtype) in served.inputs.items()}
        whole = {name: x[0] for name, x in served.noise(1).items() if x.dtype != "float32"}
        file = served.kind.encode({**nothing, **whole}, served.shape)
        return {"encoded": tf.make_tensor_proto([file] * size, tf.string)}
    inputs = {}
    for name, value in served.noise(1).items():
        first = 0.0 if value.dtype == "float32" else value.ravel()[0]
        inputs[name] = tf.make_tensor_proto(first, value.dtype, (size, *value.shape[1:]))
    return inputs


def _prediction_log(name, endpoint, inputs):
    """PredictionLog.predict_log.request of a PredictRequest: model_spec (name, signature_name) and inputs."""
    request = _field(1, _field(1, name.encode()) + _field(3, endpoint.encode()))
    for key, tensor in inputs.items():
        request += _field(2, _field(1, key.encode()) + _field(2, tensor.SerializeToString()))
    return _field(6, _field(1, request))


def _field(number, content):
    """A field of protobuf's wire format that has a length."""
    length, size = len(content), b""
    while length >= 128:
        size += bytes([length % 128 + 128])
        length //= 128
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
