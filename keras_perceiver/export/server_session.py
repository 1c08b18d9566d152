"""A SavedModel in a session of TensorFlow's C API: the loader of TensorFlow Serving, which has no Python.

Python's own loader makes new functions of what it reads; this one takes the graph, its initialisation and its
signatures as they lie in the file. It is loaded by its path where this package cannot be imported, see `fresh_process`.
"""

import ctypes
import os
from pathlib import Path

import numpy as np

POINTER = ctypes.c_void_p
TENSOR_OF_STRINGS, STRING_BYTES = 7, 24  # TF_STRING; the size of a TF_TString


class _Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", POINTER), ("length", ctypes.c_size_t), ("deallocate", POINTER))


class _Output(ctypes.Structure):
    """TF_Output: one of the tensors that an operation makes."""

    _fields_ = (("operation", POINTER), ("index", ctypes.c_int))


_int, _buffer, _outputs, _pointers = ctypes.c_int, *map(ctypes.POINTER, (_Buffer, _Output, POINTER))
# {function, without `TF_`: (what it returns, what it takes)}
FUNCTIONS = {
    "NewStatus": (POINTER, ()),
    "DeleteStatus": (None, (POINTER,)),
    "GetCode": (_int, (POINTER,)),
    "Message": (ctypes.c_char_p, (POINTER,)),
    "NewGraph": (POINTER, ()),
    "DeleteGraph": (None, (POINTER,)),
    "GraphOperationByName": (POINTER, (POINTER, ctypes.c_char_p)),
    "NewSessionOptions": (POINTER, ()),
    "DeleteSessionOptions": (None, (POINTER,)),
    "NewBuffer": (_buffer, ()),
    "DeleteBuffer": (None, (_buffer,)),
    "LoadSessionFromSavedModel": (
        POINTER,
        (POINTER, POINTER, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), _int, POINTER, _buffer, POINTER),
    ),
    "CloseSession": (None, (POINTER, POINTER)),
    "DeleteSession": (None, (POINTER, POINTER)),
    "SessionRun": (
        None,
        (POINTER, POINTER, _outputs, _pointers, _int, _outputs, _pointers, _int, POINTER, _int, POINTER, POINTER),
    ),
    "AllocateTensor": (POINTER, (_int, ctypes.POINTER(ctypes.c_int64), _int, ctypes.c_size_t)),
    "DeleteTensor": (None, (POINTER,)),
    "TensorData": (POINTER, (POINTER,)),
    "TensorByteSize": (ctypes.c_size_t, (POINTER,)),
    "NumDims": (_int, (POINTER,)),
    "Dim": (ctypes.c_int64, (POINTER, _int)),
    "StringInit": (None, (POINTER,)),
    "StringAssignView": (None, (POINTER, ctypes.c_char_p, ctypes.c_size_t)),
}


class ServerSession:
    """What a server has of a SavedModel: its graph, initialised, in a session.

    Args:
        folder: of the SavedModel.

    Raises:
        RuntimeError: where TensorFlow cannot load it, with its reason.
    """

    def __init__(self, folder):
        import tensorflow as tf
        from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

        (path,) = Path(tf.__file__).parent.glob("libtensorflow_cc.*[0-9]*")  # .so.2, or .2.dylib
        library = ctypes.CDLL(str(path))
        self._call = {name: getattr(library, f"TF_{name}") for name in FUNCTIONS}
        for name, (returned, taken) in FUNCTIONS.items():
            self._call[name].restype, self._call[name].argtypes = returned, taken
        self._numpy_dtype = lambda number: tf.as_dtype(number).as_numpy_dtype
        self._number = lambda dtype: tf.as_dtype(dtype).as_datatype_enum
        call = self._call
        self._session, self._status, self._graph = None, call["NewStatus"](), call["NewGraph"]()
        options, about, tags = call["NewSessionOptions"](), call["NewBuffer"](), (ctypes.c_char_p * 1)(b"serve")
        self._session = call["LoadSessionFromSavedModel"](
            options, None, os.fsencode(folder), tags, 1, self._graph, about, self._status
        )
        self._check()
        content = ctypes.string_at(about.contents.data, about.contents.length)
        self._signatures = MetaGraphDef.FromString(content).signature_def
        call["DeleteBuffer"](about)
        call["DeleteSessionOptions"](options)

    def endpoint(self, name):
        """A function of `{input: array, or list of bytes}` that returns `{output: array}`."""
        signature = self._signatures[name]
        outputs = dict(signature.outputs)

        def run(inputs):
            given = [self._tensor(value, signature.inputs[key].dtype) for key, value in inputs.items()]
            found = (POINTER * len(outputs))()
            self._call["SessionRun"](
                self._session,
                None,
                self._places([signature.inputs[key] for key in inputs]),
                (POINTER * len(given))(*given),
                len(given),
                self._places(outputs.values()),
                found,
                len(outputs),
                None,
                0,
                None,
                self._status,
            )
            for tensor in given:
                self._call["DeleteTensor"](tensor)
            self._check()
            return {key: self._array(found[i], info.dtype) for i, (key, info) in enumerate(outputs.items())}

        return run

    def _check(self):
        if self._call["GetCode"](self._status):
            raise RuntimeError(self._call["Message"](self._status).decode(errors="replace"))

    def _places(self, infos):
        """Where tensors of a signature are in the graph: "operation:0"."""
        places = (_Output * len(infos))()
        for place, info in zip(places, infos, strict=True):
            operation, _, index = info.name.partition(":")
            place.operation = self._call["GraphOperationByName"](self._graph, operation.encode())
            place.index = int(index)
        return places

    def _tensor(self, value, dtype):
        """A TF_Tensor of an array; of bytes, as a list or an array of objects, which must stay as long as it."""
        call = self._call
        if dtype == TENSOR_OF_STRINGS:
            value = np.asarray(value, object)
            shape = (ctypes.c_int64 * value.ndim)(*value.shape)
            tensor = call["AllocateTensor"](dtype, shape, value.ndim, STRING_BYTES * value.size)
            for number, content in enumerate(value.flat):
                place = call["TensorData"](tensor) + STRING_BYTES * number
                call["StringInit"](place)
                call["StringAssignView"](place, content, len(content))
            return tensor
        value = np.ascontiguousarray(value)
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        tensor = call["AllocateTensor"](self._number(value.dtype), shape, value.ndim, value.nbytes)
        ctypes.memmove(call["TensorData"](tensor), value.ctypes.data, value.nbytes)
        return tensor

    def _array(self, tensor, dtype):
        """The content of a TF_Tensor, which is deleted."""
        call = self._call
        shape = [call["Dim"](tensor, axis) for axis in range(call["NumDims"](tensor))]
        content = ctypes.string_at(call["TensorData"](tensor), call["TensorByteSize"](tensor))
        call["DeleteTensor"](tensor)
        return np.frombuffer(content, self._numpy_dtype(dtype)).reshape(shape)

    def __del__(self):
        if self._session:
            self._call["CloseSession"](self._session, self._status)
            self._call["DeleteSession"](self._session, self._status)
        self._call["DeleteGraph"](self._graph)
        self._call["DeleteStatus"](self._status)
