"""What TensorBoard shows of a run beside Keras' own: norms of gradients, and what the latents look at."""

import io

import keras
import tensorflow as tf
from keras import ops

from keras_perceiver._checks import require_one_of, require_positive
from keras_perceiver.data import MODALITIES
from keras_perceiver.training.feeding import evaluation_data

DRAWINGS = 20  # of a run


class GradientNorms(keras.callbacks.Callback):
    """Adds the length of all gradients together to the logs of each epoch: `gradient_norm`, the mean of its steps, and
    `gradient_norm_max`.

    It is that of a batch before the optimiser clips anything, and without the scale of a float16 loss; steps that such
    a scale leaves out do not count. Put it before callbacks that are to see it, such as `keras.callbacks.TensorBoard`
    or `CSVLogger`. It looks on where the model hands its gradients to the optimiser; for one device.
    """

    def __init__(self):
        super().__init__()
        self._optimizer = None

    def set_model(self, model):
        super().set_model(model)
        if self._optimizer is not None:
            return
        self._optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        names = ("sum", "max", "count")
        self._sum, self._max, self._count = (
            keras.Variable(0.0, dtype="float32", trainable=False, name=f"gradient_norm_{name}") for name in names
        )
        self._apply = self._optimizer.apply
        self._optimizer.apply = self._look_on
        model.train_function = None  # one that was traced before does not look

    def on_epoch_begin(self, epoch, logs=None):
        for variable in (self._sum, self._max, self._count):
            variable.assign(0.0)

    def on_epoch_end(self, epoch, logs=None):
        if count := float(self._count):
            logs["gradient_norm"] = float(self._sum) / count
            logs["gradient_norm_max"] = float(self._max)

    def on_train_end(self, logs=None):
        del self._optimizer.apply  # the class' own is found again
        self._optimizer = None
        self.model.train_function = None

    def _look_on(self, grads, trainable_variables=None):
        squares = [ops.sum(ops.square(ops.cast(grad, "float32"))) for grad in grads if grad is not None]
        norm = ops.sqrt(sum(squares))
        self._sum.assign_add(norm)
        self._max.assign(ops.maximum(self._max, norm))
        self._count.assign_add(1.0)
        return self._apply(grads, trainable_variables)


class ModelGraph(keras.callbacks.Callback):
    """Writes the graph of a model for TensorBoard: TensorFlow's operators, from its inputs to its outputs.

    Keras' own callback writes the layers (the tag `keras` of TensorBoard's graphs), and would write the operators of
    the training step where that is one function of TensorFlow's, which it is not any more in Keras 3.

    Args:
        log_dir: folder of TensorBoard's files.
    """

    def __init__(self, log_dir):
        super().__init__()
        self.log_dir = str(log_dir)

    def on_train_begin(self, logs=None):
        specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), self.model.input)
        forward = tf.function(lambda inputs: self.model(inputs, training=False), autograph=False)
        writer = tf.summary.create_file_writer(f"{self.log_dir}/train")
        with writer.as_default(step=0):
            tf.summary.graph(forward.get_concrete_function(specs).graph)
        writer.close()


class AttentionImages(keras.callbacks.Callback):
    """Writes drawings of what a Perceiver's latents look at, for TensorBoard: `attention` among its images.

    Args:
        log_dir: folder of TensorBoard's files.
        example: as it enters the model, without batch: a tensor, or a dictionary of them.
        modality: key of `MODALITIES`, which says how an example is drawn.
        latents: see `attention_maps`.
        every_epochs: epochs from one drawing to the next, at least 1; the last one is always drawn.

    Raises:
        InputError: where the modality is unknown, or, in `fit`, where the model is no Perceiver.
    """

    def __init__(self, log_dir, example, *, modality="image", latents=4, every_epochs=1):
        super().__init__()
        require_one_of(MODALITIES, modality=modality)
        require_positive(every_epochs=every_epochs)
        self.log_dir = str(log_dir)
        self.example = example
        self.kind = MODALITIES[modality]
        self.latents = latents
        self.every_epochs = every_epochs
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if not is_last and epoch % self.every_epochs:
            return
        from keras_perceiver.inspection.attend import draw_attention  # which reads runs, by means of this package

        png = io.BytesIO()
        figure = draw_attention(self.model, self.kind, self.example, self.latents, f"epoch {epoch + 1}")
        figure.savefig(png, format="png", dpi=100)
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(f"{self.log_dir}/attention")
        with self._writer.as_default(step=epoch):
            tf.summary.image("attention", tf.io.decode_png(png.getvalue(), channels=3)[None])
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def board_callbacks(folder, source, config, recipe):
    """The callbacks of a run that TensorBoard shows: figures, learning rate, norms of gradients, the graph, and of a
    Perceiver attention over the first example of the validation split, about `DRAWINGS` times.

    Args:
        folder: of TensorBoard's files.
        source: the data.
        config: of the run, see `configuration`.
        recipe: of the run.
    """
    callbacks = [GradientNorms(), keras.callbacks.TensorBoard(folder), ModelGraph(folder)]
    if config["network"] == "perceiver":
        first = source.with_split("validation", source.splits["validation"].take([0]))
        batch, _ = next(iter(evaluation_data(first, "validation", preprocess=config["preprocess"])))
        example = tf.nest.map_structure(lambda x: x[0], batch)
        every = max(1, recipe.epochs // DRAWINGS)
        callbacks.append(AttentionImages(folder, example, modality=source.modality, every_epochs=every))
    return callbacks
