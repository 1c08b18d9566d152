import inspect

import pytest

import keras_perceiver
from keras_perceiver import _checks
from keras_perceiver._checks import InputError, InputTypeError


def message_of(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_the_grammar_is_rule_received_repair():
    message = message_of(_checks.require, False, "`a` must divide `b`", a=3, b="7", repair="Choose 1.")
    assert message == "`a` must divide `b`. Received: a=3, b='7'. Choose 1."


def test_what_is_not_known_is_left_out():
    assert message_of(_checks.require, False, "It must hold.") == "It must hold."


def test_nothing_is_raised_where_the_rule_holds():
    _checks.require(True, "`a` must hold", a=0)
    _checks.require_positive(a=1, b=2)
    _checks.require_at_least(0, a=0)
    _checks.require_between(0, 1, a=0, b=0.99)
    _checks.require_one_of(("x", "y"), a="y")


def test_errors_are_what_python_users_catch():
    assert issubclass(InputError, ValueError)
    assert issubclass(InputTypeError, InputError)
    assert issubclass(InputTypeError, TypeError)
    with pytest.raises(InputTypeError):
        _checks.require(False, "`a` must be boolean", error=InputTypeError)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, [1]])
def test_positive_means_an_integer_of_at_least_one(value):
    message = message_of(_checks.require_positive, fine=1, size=value)
    assert message == f"`size` must be an integer of at least 1. Received: size={value!r}."


def test_the_minimum_is_allowed_and_named():
    _checks.require_at_least(5, size=5)
    assert (
        message_of(_checks.require_at_least, 5, size=4) == "`size` must be an integer of at least 5. Received: size=4."
    )


@pytest.mark.parametrize("value", [-0.1, 1, True, "0.5", None, float("nan")])
def test_between_leaves_the_upper_end_out(value):
    message = message_of(_checks.require_between, 0, 1, rate=value)
    assert message == f"`rate` must be a number in [0, 1). Received: rate={value!r}."


def test_one_of_names_all_and_the_nearest():
    message = message_of(_checks.require_one_of, ("fourier", "learned", "none"), positions="furier")
    assert message == (
        "`positions` must be one of 'fourier', 'learned', 'none'. Received: positions='furier'. Did you mean 'fourier'?"
    )


def test_nothing_is_guessed_where_nothing_is_near():
    assert message_of(_checks.require_one_of, ("fourier",), positions=3) == (
        "`positions` must be one of 'fourier'. Received: positions=3."
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("digts", "Did you mean 'digits'?"), ("imagnet", "Did you mean 'imagenet' or 'imagenette'?"), ("xyz", "")],
)
def test_nearest(value, sentence):
    assert _checks.nearest(value, ["digits", "imagenet", "imagenette"]) == sentence


LAYERS = [getattr(keras_perceiver, name) for name in keras_perceiver.__all__ if name[0].isupper()]


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (layer, name)
        for layer in LAYERS
        for name, parameter in inspect.signature(layer.__init__).parameters.items()
        if name not in ("self", "kwargs", "implementation", "max_resolution", "permute_seed")  # 0 is a seed
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
@pytest.mark.parametrize("value", [0, -1, "many", True], ids=str)
def test_every_number_of_every_layer_is_checked_at_once(layer, argument, value):
    needed = {"num_latents": 3, "latent_dim": 5} if layer is keras_perceiver.LatentArray else {}
    message = message_of(layer, **{**needed, argument: value})
    assert message.startswith(f"`{argument}` must be ")
    assert f"Received: {argument}={value!r}." in message


def test_what_is_not_printable_is_escaped():
    assert _checks.printable("a\x1b[31mb\n\u00e9") == "a\\x1b[31mb\\n\u00e9"
