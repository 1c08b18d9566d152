"""What a search has found so far, read from its folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from tuning.oracles import read_trials
from tuning.tuner import FACTS, OVER

PROJECT = "trials"  # the folder of KerasTuner in that of a search
COMPLETED, FAILED, OVER_LIMIT, UNFINISHED = "completed", "failed", "over a limit", "unfinished"


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        trial: its id.
        status: "completed", "failed", "over a limit" (which is no failure: the model was not trained) or "unfinished".
        score: of the objective in its best epoch; None where it is not completed.
        epoch: that epoch, counted from 1.
        values: `{hyper-parameter: value}`, as KerasTuner holds them.
        metrics: figures of that epoch.
        parameters, flops, latency_ms, seconds, worker: what it cost, and where it ran; None where not known.
        reason: why it is not completed.
    """

    trial: str
    status: str
    score: float | None
    epoch: int
    values: dict
    metrics: dict = field(default_factory=dict)
    parameters: int | None = None
    flops: int | None = None
    latency_ms: float | None = None
    seconds: float | None = None
    worker: str | None = None
    reason: str = ""


def read_results(folder):
    """All trials of a search that have begun, in that order."""
    project = Path(folder) / PROJECT
    return [result_of(trial, project) for trial in read_trials(project)]


def result_of(trial, project):
    """`TrialResult` of a trial of KerasTuner, with the facts that lie beside it."""
    path = Path(project) / f"trial_{trial.trial_id}" / FACTS
    is_over = trial.status in ("COMPLETED", "FAILED")
    facts = json.loads(path.read_text()) if is_over and path.is_file() else {}
    status = {"COMPLETED": COMPLETED, "FAILED": FAILED}.get(trial.status, UNFINISHED)
    if status == FAILED and facts.get("reason", "").startswith(f"{OVER}: "):
        status = OVER_LIMIT
        facts["reason"] = facts["reason"].removeprefix(f"{OVER}: ")
    values = trial.hyperparameters.values
    return TrialResult(
        trial=trial.trial_id,
        status=status,
        score=trial.score if status == COMPLETED else None,
        epoch=values.get("tuner/initial_epoch", 0) + (trial.best_step or 0) + 1,
        values={name: value for name, value in values.items() if not name.startswith("tuner/")},
        metrics={name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics},
        **facts,
    )


def of_status(results, status):
    """Those of the results that have this status."""
    return [result for result in results if result.status == status]


def ranked(results, objective):
    """The completed ones, the best first; of equal ones the faster."""
    return sorted(of_status(results, COMPLETED), key=lambda r: (_loss(r, objective), r.latency_ms))


def front(results, objective):
    """The completed ones that no other is better than at equal or lower latency, the fastest first."""
    found = []
    for result in sorted(of_status(results, COMPLETED), key=lambda r: (r.latency_ms, _loss(r, objective))):
        if not found or objective.better_than(result.score, found[-1].score):
            found.append(result)
    return found


def short(value):
    """A value of a hyper-parameter in few characters."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _loss(result, objective):
    """What is the less, the better a result is."""
    return -result.score if objective.direction == "max" else result.score
