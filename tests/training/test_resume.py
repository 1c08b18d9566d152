"""Going on after whatever happened: kills, signals, corrupt files, full disks, losses that are no number."""

import contextlib
import errno
import io
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_perceiver._checks import InputError
from keras_perceiver.data import Source, Split
from keras_perceiver.layers import ModalityDropout
from keras_perceiver.training import Checkpoints, Recipe, Run, Stopped, StopRequest
from keras_perceiver.training.feeding import training_data
from keras_perceiver.training.progress import History
from keras_perceiver.training.resume import START
from keras_perceiver.training.runs import write_atomically
from keras_perceiver.training.state import State, newest_state, write_state
from keras_perceiver.training.train import fit
from tests.tiny import quiet

TESTS = Path(__file__).parent.parent
RECIPE = Recipe(2, 4, 0.1, jit_compile=False)
STEPS = 3


def source(examples=None):
    """13 tiny pictures with a name each: three batches of four."""
    examples = np.random.default_rng(0).normal(size=(13, 2, 3, 1)) if examples is None else examples
    names = tuple(f"picture-{i}.png" for i in range(13))
    split = Split(examples.astype(np.float32), np.arange(13, dtype=np.int32) % 2, names)
    return Source("noise", "image", ("a", "b"), {"train": split, "validation": split}, preset="image")


def network(units=5, recipe=RECIPE, steps=STEPS, hidden=0):
    """The same initial weights at every call; the share `hidden` of the pictures is hidden in training."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2, 3, 1))
    x = ModalityDropout(hidden, name="hiding")(inputs) if hidden else inputs
    # No ReLU: oneDNN's product with a bias and a ReLU makes 0 of NaN on processors with AVX-512.
    x = keras.layers.Dense(units, "gelu", name="hidden")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    recipe.compile(model, steps)
    return model


class At(keras.callbacks.Callback):
    """Does something after that step, both counted from 0."""

    def __init__(self, epoch, step, action):
        super().__init__()
        self.place, self.action = (epoch, step), action

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            self.action()


def interrupt():
    raise KeyboardInterrupt


def checkpoints(folder, **settings):
    return Checkpoints(folder, **{"every_steps": 1, "console": quiet(), **settings})


def killed_run(folder, epoch=1, step=1, hidden=0):
    """Leaves the checkpoints of a run that ended behind that step."""
    with pytest.raises(KeyboardInterrupt):
        fit(network(hidden=hidden), source(), RECIPE, 0, callbacks=[checkpoints(folder), At(epoch, step, interrupt)])


def resumed_weights(folder, console=None, hidden=0):
    model = network(hidden=hidden)
    callback = checkpoints(folder, console=console or quiet())
    position = callback.restore(model)
    fit(model, source(), RECIPE, 0, position=position, callbacks=[callback])
    return position, model.get_weights()


@pytest.fixture(scope="module")
def whole_weights():
    model = network()
    fit(model, source(), RECIPE, 0)
    return model.get_weights()


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("job", ["small", pytest.param("threes", marks=pytest.mark.thorough)])
def test_processes_that_are_killed_at_random_moments_end_like_one_that_was_not(job):
    """Few kills of a small network, also where three steps are one for Python; of the whole job, 20 by `python
    tests/kill.py`."""
    command = [sys.executable, str(TESTS / "kill.py"), f"--job={job}", "--kills=2", "--seed=1"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr[-2000:]
    rows = [line for line in printed.stdout.splitlines() if line.startswith("killed after")]
    assert sum(row.count(".") for row in rows) == 2
    assert all(row.endswith("the same") for row in rows)


def test_the_two_newest_checkpoints_are_kept_and_a_corrupt_one_is_passed_over(tmp_path, whole_weights):
    killed_run(tmp_path)
    older, newest = sorted(tmp_path.glob("*.npz"))
    assert (older.name[:15], newest.name[:15]) == ("000001-00000001", "000001-00000002")
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    console = Console(file=io.StringIO(), width=500)
    position, weights = resumed_weights(tmp_path, console)
    assert position == (1, 1)
    assert f"{newest} is corrupt" in console.file.getvalue()
    assert newest.with_name(newest.name + ".corrupt").read_bytes() == damaged
    assert_same(weights, whole_weights)


def test_behind_a_kill_the_same_modalities_are_hidden(tmp_path):
    whole = network(hidden=0.5)
    draws = np.array(whole.get_layer("hiding").seed_generator.state)
    fit(whole, source(), RECIPE, 0)
    assert not np.array_equal(whole.get_layer("hiding").seed_generator.state, draws)
    killed_run(tmp_path, hidden=0.5)
    position, weights = resumed_weights(tmp_path, hidden=0.5)
    assert position == (1, 2)
    assert_same(weights, whole.get_weights())


def test_where_no_checkpoint_can_be_read_a_run_begins_again(tmp_path, whole_weights):
    killed_run(tmp_path)
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    position, weights = resumed_weights(tmp_path)
    assert position == START
    assert_same(weights, whole_weights)


def test_a_run_that_was_killed_before_its_validation_or_behind_its_last_epoch_goes_on(tmp_path, whole_weights):
    killed_run(tmp_path / "before", epoch=1, step=STEPS - 1)
    fit(network(), source(), RECIPE, 0, callbacks=[checkpoints(tmp_path / "behind")])
    for name, reached in (("before", (1, STEPS)), ("behind", (2, 0))):
        position, weights = resumed_weights(tmp_path / name)
        assert position == reached
        assert_same(weights, whole_weights)


def test_no_step_is_lost_behind_an_epoch_whose_validation_was_still_to_come(tmp_path):
    recipe, ends = RECIPE.replaced(epochs=4), []
    for callbacks in ([], [checkpoints(tmp_path), At(0, STEPS - 1, interrupt)]):
        with contextlib.suppress(KeyboardInterrupt):
            ends.append(network(recipe=recipe))
            fit(ends[-1], source(), recipe, 0, callbacks=callbacks)
    resumed = network(recipe=recipe)
    callback = checkpoints(tmp_path)
    position = callback.restore(resumed)
    assert position == (0, STEPS)
    fit(resumed, source(), recipe, 0, position=position, callbacks=[callback])
    assert_same(resumed.get_weights(), ends[0].get_weights())


@pytest.mark.parametrize("killed_at", [(0, 1), (0, 5), (1, 3)])
def test_a_run_whose_steps_python_does_not_hear_of_goes_on_with_the_right_ones(tmp_path, killed_at):
    """Six steps an epoch, two at a time: within an epoch, before its validation, and within the next one."""
    recipe = RECIPE.replaced(batch_size=2, steps_per_execution=2)
    rows, ends = ([], []), []
    for callbacks in ([History(rows[0], lambda _: None)], [checkpoints(tmp_path), At(*killed_at, interrupt)]):
        with contextlib.suppress(KeyboardInterrupt):
            ends.append(network(recipe=recipe, steps=6))
            fit(ends[-1], source(), recipe, 0, callbacks=callbacks)
    resumed = network(recipe=recipe, steps=6)
    callback = checkpoints(tmp_path, rows=rows[1])
    position = callback.restore(resumed)
    assert position == (killed_at[0], killed_at[1] + 1)
    fit(resumed, source(), recipe, 0, position=position, callbacks=[History(rows[1], lambda _: None), callback])
    assert_same(resumed.get_weights(), ends[0].get_weights())
    assert rows[1] == rows[0][killed_at[0] :]


def test_a_checkpoint_of_another_model_is_refused_with_what_differs(tmp_path):
    killed_run(tmp_path)
    other = network(units=7)
    before = other.get_weights()
    with pytest.raises(InputError, match=r"hidden/kernel float32 \(6, 5\) there, hidden/kernel float32 \(6, 7\) here"):
        checkpoints(tmp_path).restore(other)
    assert_same(other.get_weights(), before)
    sgd = network()
    sgd.compile("sgd", "mse")
    with pytest.raises(InputError, match="there, nothing here"):
        checkpoints(tmp_path).restore(sgd)


def test_on_a_full_disk_a_run_stops_and_what_was_there_stays(tmp_path, monkeypatch, whole_weights):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    fill = At(0, 1, lambda: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(InputError, match=r"must be writable. \(No space left on device\) Those that are there stay"):
        fit(network(), source(), RECIPE, 0, callbacks=[checkpoints(tmp_path), fill])
    assert [path.name[:15] for path in sorted(tmp_path.iterdir())] == ["000000-00000001", "000000-00000002"]
    monkeypatch.undo()
    position, weights = resumed_weights(tmp_path)
    assert position == (0, 2)
    assert_same(weights, whole_weights)


def test_a_file_that_cannot_be_written_is_named_and_its_old_content_stays(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "history.csv"
    path.write_text("precious")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"history.csv` must be writable. \(No space left on device\)"):
        write_atomically(path, "new")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_of_that_very_step(tmp_path, whole_weights, number):
    before = signal.getsignal(number)
    send = At(0, 1, lambda: os.kill(os.getpid(), number))
    stop = StopRequest()
    callback = checkpoints(tmp_path, every_steps=1000, stop=stop)
    with stop, pytest.raises(Stopped, match=f"stopped by {number.name} after step 2 of epoch 1"):
        fit(network(), source(), RECIPE, 0, callbacks=[send, callback])
    assert signal.getsignal(number) is before
    position, weights = resumed_weights(tmp_path)
    assert position == (0, 2)
    assert_same(weights, whole_weights)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_examples(tmp_path):
    examples = source().splits["train"].examples.copy()
    examples[9, 0, 1] = np.nan
    bad = source(examples)
    # By another way than the run's: which batch holds the broken picture.
    batches = itertools.islice(training_data(bad, RECIPE, 0), STEPS)
    (step,) = [i for i, (x, _) in enumerate(batches) if np.isnan(x).any()]
    with pytest.raises(InputError, match=f"It is nan after step {step + 1} of epoch 1 on the examples") as caught:
        fit(network(), bad, RECIPE, 0, callbacks=[checkpoints(tmp_path)])
    named = re.findall(r"picture-\d+\.png", str(caught.value))
    assert len(named) == RECIPE.batch_size
    assert "picture-9.png" in named
    state = newest_state(tmp_path, print)
    assert state.step == step > 0
    assert all(np.isfinite(value).all() for _, value in state.groups["model"])


def test_weights_that_are_no_numbers_are_never_kept(tmp_path):
    model = network()
    spoil = At(0, 1, lambda: model.layers[-1].bias.assign([np.inf, 0]))
    with pytest.raises(InputError, match=r"The weights must stay finite. .* after step 2 of epoch 1, in logits/bias"):
        fit(model, source(), RECIPE, 0, callbacks=[spoil, checkpoints(tmp_path)])
    assert [path.name[:15] for path in tmp_path.iterdir()] == ["000000-00000001"]


def test_by_itself_checkpoints_take_at_most_two_percent_of_the_time(tmp_path, monkeypatch):
    """A clock on which a step takes 1 s and a checkpoint 3 s: every 150 s, after a first one at 15 s."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    callback = Checkpoints(tmp_path, console=quiet())
    callback.set_model(network())
    taken = []

    def slow(folder, state):
        taken.append(state.step)
        now[0] += 3

    monkeypatch.setattr("keras_perceiver.training.resume.write_state", slow)
    callback.on_epoch_begin(0)
    for step in range(400):
        now[0] += 1
        callback.on_train_batch_end(step)
    assert taken == [15, 165, 315]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"every_steps": 0}, "`checkpoint_steps` must be an integer of at least 1"),
        ({"every_minutes": 0}, "`checkpoint_minutes` must be a finite number above 0"),
        ({"every_steps": 3, "every_minutes": 2.0}, "Only one of `checkpoint_steps` and `checkpoint_minutes`"),
    ],
)
def test_illegal_intervals_are_refused(tmp_path, settings, rule):
    with pytest.raises(InputError, match=rule):
        Checkpoints(tmp_path, **settings)


def test_a_state_comes_back_to_the_bit_whatever_its_dtypes(tmp_path):
    brain = keras.ops.convert_to_numpy(keras.ops.array([1.5, -2.25], "bfloat16"))
    values = [("brain", brain), ("scale", np.array(3, np.int64)), ("half", np.array([[0.1]], np.float16))]
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}]
    write_state(tmp_path / "new", State(1, 7, rows, {"model": values, "metrics": []}))
    state = newest_state(tmp_path / "new", print)
    assert (state.epoch, state.step, state.rows) == (1, 7, rows)
    for (name, ours), (other, theirs) in zip(state.groups["model"], values, strict=True):
        assert (name, ours.dtype, ours.shape, ours.tobytes()) == (other, theirs.dtype, theirs.shape, theirs.tobytes())


HOLDER = "import fcntl, os, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.write(str(os.getpid())); \
f.flush(); print('held', flush=True); sys.stdin.read()"


def test_a_second_process_is_refused_until_the_first_one_ends_however_it_ends(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], **pipes) as first:
        first.stdout.readline()
        with pytest.raises(InputError, match=f"Process {first.pid} does"), Run(tmp_path).locked():
            pass
        first.kill()
    assert (tmp_path / "lock").exists()
    with Run(tmp_path).locked():
        assert (tmp_path / "lock").read_text() == str(os.getpid())
        with pytest.raises(InputError, match=f"Process {os.getpid()} does"), Run(tmp_path).locked():
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_killed_before_it_had_begun_can_begin(tmp_path):
    (tmp_path / "lock").write_text("123")
    (tmp_path / "config.json.tmp").write_text("{")
    Run(tmp_path).claim({"seed": 0})
    assert Run(tmp_path).config() == {"seed": 0}
