"""What is seen and kept of a run while it trains."""

import time
from contextlib import contextmanager

import keras
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# What is shown of the logs of an epoch, and how it is named.
FIGURES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "val_accuracy": "val_accuracy",
    "val_mean_average_precision": "val_mAP",
}


class History(keras.callbacks.Callback):
    """Appends the logs of each epoch to `rows` and hands all of them to `write`."""

    def __init__(self, rows, write):
        super().__init__()
        self.rows = rows
        self.write = write

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})
        self.write(self.rows)


class ProgressBar(keras.callbacks.Callback):
    """One bar for the whole run: epochs, figures, examples per second, time left.

    Where the console is no terminal, a line is printed about every tenth of the run instead.

    Args:
        console: `rich.console.Console`.
        num_epochs: of the whole run.
        batch_size: examples of a step.
    """

    def __init__(self, console, num_epochs, batch_size):
        super().__init__()
        self.console = console
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs {task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=num_epochs, figures="(compiling)")

    def on_train_begin(self, logs=None):
        self.progress.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        figures = "  ".join(f"{said} {logs[name]:.4f}" for name, said in FIGURES.items() if name in logs)
        seconds = time.monotonic() - self._began
        figures += f"  {self.params['steps'] * self.batch_size / seconds:,.0f} examples/s"
        self.progress.update(self.task, completed=epoch + 1, figures=figures)
        tenth = max(1, self.num_epochs // 10)
        if not self.console.is_terminal and ((epoch + 1) % tenth == 0 or epoch + 1 == self.num_epochs):
            self.console.print(f"epoch {epoch + 1}/{self.num_epochs}  {figures}", soft_wrap=True)

    def on_train_end(self, logs=None):
        self.progress.stop()


def duration(seconds):
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def many_models():
    """TensorFlow warns of a function that is traced again and again; here each is that of another model."""

    def is_other(record):
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(is_other)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(is_other)
