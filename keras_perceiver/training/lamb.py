"""The optimiser of the paper."""

import re

import keras
from keras import ops

from keras_perceiver._checks import require, require_between

PACKAGE = "keras_perceiver"


@keras.saving.register_keras_serializable(package=PACKAGE)
class Lamb(keras.optimizers.Optimizer):
    """LAMB with the weight decay inside the trust ratio, as in its paper and in optax.

    Adam's step and the decay are one update, whose length is then that of the weight times the learning rate::

        u = m̂ / (sqrt(v̂) + epsilon) + weight_decay · w
        w = w - learning_rate · (|w| / |u|) · u

    The ratio is 1 where the weight or the update is zero. `keras.optimizers.Lamb` decays outside the ratio, which
    moves the weights 11 % differently after five steps at a decay of 0.1.

    Args:
        learning_rate: a number or a Keras schedule.
        beta_1: in [0, 1), of the first moments.
        beta_2: in [0, 1), of the second moments.
        epsilon: beside the root of the second moments; 1e-6 in the paper and in optax.
        weight_decay: at least 0.
        no_decay: names of variables that are not decayed, such as "bias"; regular expressions to be found in the name.
        **kwargs: of `keras.optimizers.Optimizer`: `global_clipnorm`, `use_ema`, ..

    Raises:
        InputError: where a number is out of its range, or a name is no regular expression.

    Reference: You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        weight_decay=0.0,
        no_decay=(),
        name="lamb",
        **kwargs,
    ):
        require_between(0, 1, beta_1=beta_1, beta_2=beta_2)
        require_between(0, float("inf"), epsilon=epsilon, weight_decay=weight_decay)
        # Keras is not told of the decay: it would apply it by itself, outside the trust ratio.
        super().__init__(learning_rate, weight_decay=None, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decay = weight_decay
        self.no_decay = tuple(no_decay)
        for pattern in self.no_decay:
            require(_is_pattern(pattern), "`no_decay` must hold names, or regular expressions", no_decay=pattern)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Refused: what is not decayed is named in `no_decay`, which is part of the configuration."""
        given = var_names if var_list is None else [variable.path for variable in var_list]
        require(False, "Weights that are not decayed must be named in `no_decay`", exclude_from_weight_decay=given)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._first_moments, self._second_moments = self.add_optimizer_variables(
            variables, ["first_moment", "second_moment"]
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        first, second = self._first_moments[index], self._second_moments[index]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(first, (1 - self.beta_1) * (gradient - first))
        self.assign_add(second, (1 - self.beta_2) * (ops.square(gradient) - second))
        step = ops.cast(self.iterations + 1, variable.dtype)
        # Not `ops.cast`, which would round to float32 first.
        beta_1, beta_2 = (ops.convert_to_tensor(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        first_hat, second_hat = first / (1 - ops.power(beta_1, step)), second / (1 - ops.power(beta_2, step))
        update = first_hat / (ops.sqrt(second_hat) + self.epsilon)
        if self.is_decayed(variable):
            update = update + self.decay * variable
        rate = ops.cast(learning_rate, variable.dtype) * _trust_ratio(variable, update)
        self.assign_sub(variable, rate * update)

    def is_decayed(self, variable):
        """Whether the weight decay reaches a variable."""
        return self.decay > 0 and not any(re.search(pattern, variable.name) for pattern in self.no_decay)

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "weight_decay": self.decay,
            "no_decay": list(self.no_decay),
        }


def _trust_ratio(weight, update):
    """|w| / |u|, and 1 where either is zero."""
    weight_norm, update_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (weight, update))
    has_both = ops.logical_and(weight_norm > 0, update_norm > 0)
    return ops.where(has_both, weight_norm / ops.where(has_both, update_norm, 1), 1)


def _is_pattern(text):
    try:
        re.compile(text)
    except (re.error, TypeError):
        return False
    return True
