"""Which hyper-parameters have mattered, by scikit-learn."""

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from tuning.results import COMPLETED, of_status

FEWEST = 8  # trials from which something can be said


def importance(results):
    """`{hyper-parameter: share}` of the completed trials, the greatest first; empty where there are too few.

    A forest learns scores from points; its error with the values of one hyper-parameter shuffled says how much it leans
    on that one. With few trials it is a hint, and no more.
    """
    completed = of_status(results, COMPLETED)
    if len(completed) < FEWEST:
        return {}
    names = sorted(
        {name for r in completed for name in r.values if len({str(o.values.get(name)) for o in completed}) > 1}
    )
    points = np.array([positions(name, completed) for name in names]).T
    scores = np.array([r.score for r in completed])
    if not names or np.ptp(scores) == 0:
        return {}
    forest = RandomForestRegressor(n_estimators=200, random_state=0).fit(points, scores)
    found = permutation_importance(forest, points, scores, n_repeats=20, random_state=0).importances_mean
    found = np.maximum(found, 0)
    shares = found / (found.sum() or 1)
    return dict(sorted(zip(names, map(float, shares), strict=True), key=lambda pair: -pair[1]))


def positions(name, results):
    """The values of one hyper-parameter as numbers: themselves, or their place among all that there are."""
    values = [result.values.get(name) for result in results]
    if all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values]
    places = {text: place for place, text in enumerate(sorted({str(value) for value in values}))}
    return [float(places[str(value)]) for value in values]
