"""What is seen of a search while it runs."""

from keras_perceiver.training.progress import duration
from tuning.report import said
from tuning.results import COMPLETED, result_of


class Progress:
    """A line after each trial: what came of it, the best so far, the time left.

    Args:
        objective: `keras_tuner.Objective`.
        project: folder of KerasTuner's project.
        console: `rich.console.Console`.
    """

    def __init__(self, objective, project, console):
        self.objective = objective
        self.project = project
        self.console = console

    def on_end(self, oracle, trial):
        """Says that a trial has ended; called where the oracle is."""
        result = result_of(trial, self.project)
        came = said(result.score, self.objective) if result.status == COMPLETED else f"{result.status}: {result.reason}"
        took = "" if result.seconds is None else f", {result.seconds:.0f} s"
        best = oracle.get_best_trials()[0]
        so_far = f"; best so far {best.score:.4f} (trial {best.trial_id})" if best.score is not None else ""
        left = f"; about {duration(self.seconds_left(oracle))} left"
        line = f"trial {trial.trial_id}, {len(oracle.end_order)} of {oracle.max_trials}: {came}{took}{so_far}{left}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @staticmethod
    def seconds_left(oracle):
        """As long a trial as the mean so far, and not beyond the budget."""
        left = oracle.seconds / len(oracle.end_order) * (oracle.max_trials - len(oracle.end_order))
        return left if oracle.minutes is None else max(0.0, min(left, 60 * oracle.minutes - oracle.seconds))
