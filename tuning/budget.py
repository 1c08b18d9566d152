"""Whether a budget is large enough for one trial: asked before the first one."""

from keras_perceiver._checks import require
from keras_perceiver.training.plan import plan_run
from keras_perceiver.training.spaces import MODEL
from tuning.tuner import Limits, measure


def require_budget(hyper, limits, minutes, *, first_epochs=None):
    """Requires the smallest models of a space to keep the limits, and the first trial to be trained in the minutes.

    The smallest have every number at its least, and each of the patches; a model is built only where there is a limit.
    The first trial is the default; where that is over a limit, and for Hyperband, which begins at random, one of the
    smallest stands for it.

    Args:
        hyper: `HyperPerceiver`.
        limits: `Limits`.
        minutes: of the search; None for any.
        first_epochs: of the first trials of a Hyperband; None for others.

    Raises:
        InputError: where none of them does.
    """
    smallest = smallest_points(hyper)
    over = [_exceeded(hyper, limits, point) for point in smallest]
    require(
        not all(over),
        "The limits must leave at least one model of the space",
        repair=f"The smallest one has {over[0]}.",
    )
    if minutes is None:
        return
    point = {name: one.default for name, one in hyper.choices.items()}
    is_default = first_epochs is None and not _exceeded(hyper, limits, point)
    if not is_default:
        point = [point for point, why in zip(smallest, over, strict=True) if not why][-1]
    before = {"preprocess": hyper.config["preprocess"]}
    plan = plan_run(hyper.compiled(point), hyper.source, hyper.recipe_at(point), hyper.seed, **before)
    steps = plan.steps_per_epoch * (first_epochs or plan.epochs)
    seconds = plan.first_step_seconds + plan.step_seconds * (steps - 1)
    which = "The default, which is tried first," if is_default else "The smallest model of the space"
    require(
        seconds <= 60 * minutes,
        "`minutes` must be enough for one trial",
        minutes=minutes,
        repair=f"{which} takes about {seconds:,.0f} s.",
    )


def smallest_points(hyper):
    """The points with the smallest model, one for each patch size, which costs weights and saves work."""
    least = {name: one.least() if name in MODEL else one.default for name, one in hyper.choices.items()}
    patches = hyper.choices["patch_size"].every() if "patch_size" in least else []
    return [{**least, "patch_size": patch} for patch in patches] or [least]


def _exceeded(hyper, limits, point):
    """In words, by how much the model at a point is over a limit; an empty string where it is not."""
    return "" if limits == Limits() else limits.exceeded(measure(hyper.network(point), hyper))
