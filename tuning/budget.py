"""Whether a budget is large enough for one trial: asked before the first one."""

from keras_perceiver._checks import require
from keras_perceiver.training.plan import plan_run
from keras_perceiver.training.spaces import MODEL
from tuning.tuner import Limits, measure


def require_budget(hyper, limits, minutes, *, is_hyperband):
    """Requires the smallest models of a space to keep the limits, and to be trained in the minutes.

    Every number at its least, and each of the patches; a model is built only where there is a limit.

    Raises:
        InputError: where none of them does.
    """
    if limits != Limits():
        over = [limits.exceeded(measure(hyper.network(point), hyper)) for point in smallest_points(hyper)]
        require(
            not all(over),
            "The limits must leave at least one model of the space",
            repair=f"The smallest one has {over[0]}.",
        )
    if minutes is None:
        return
    point = smallest_points(hyper)[-1]
    before = {"preprocess": hyper.config["preprocess"]}
    plan = plan_run(hyper.compiled(point), hyper.source, hyper.recipe_at(point), hyper.seed, **before)
    steps = plan.steps_per_epoch * (1 if is_hyperband else plan.epochs)
    seconds = plan.first_step_seconds + plan.step_seconds * (steps - 1)
    require(
        seconds <= 60 * minutes,
        "`minutes` must be enough for one trial",
        minutes=minutes,
        repair=f"The smallest model of the space takes about {seconds:,.0f} s.",
    )


def smallest_points(hyper):
    """The points with the smallest model, one for each patch size, which costs weights and saves work."""
    least = {name: one.least() if name in MODEL else one.default for name, one in hyper.choices.items()}
    patches = hyper.choices["patch_size"].every() if "patch_size" in least else []
    return [{**least, "patch_size": patch} for patch in patches] or [least]
