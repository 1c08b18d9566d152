"""What was not as it should be in somebody's data: skipped, counted and named."""

import collections
import csv
import io
import warnings
from dataclasses import dataclass

from keras_perceiver._checks import printable, require
from keras_perceiver._files import write_atomically

NAMED = 3  # of each kind are named on one line; all of them in `skipped.csv`


def some_of(names):
    """The first of these names for people, and how many more there are."""
    more = f"; and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return "; ".join(printable(name) for name in names[:NAMED]) + more


def broken_off_notes(names):
    """What is to be said of files that end early, a list of sentences."""
    said = "files end early or cannot be decoded to their end, and are used up to there"
    return [f"{len(names):,} {said}: {some_of(names)}"] if names else []


@dataclass(frozen=True)
class Problem:
    """One thing that was skipped: what kind of thing, where, and why."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What is to be said of a data set: `problems`, and `notes` on what is no problem."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self):
        """Sentences for people: the notes, and for each kind of problem how many and which."""
        kinds = collections.defaultdict(list)
        for problem in self.problems:
            kinds[problem.kind].append(problem)
        lines = list(self.notes)
        for kind, problems in kinds.items():
            named = some_of([f"{problem.path}: {problem.reason}" for problem in problems])
            lines.append(f"skipped {len(problems):,} ({kind}): {named}")
        return lines

    def require_none(self):
        """An `InputError` where anything was skipped: `strict`."""
        require(not self.problems, "With `strict` nothing may be skipped", repair=". ".join(self.lines()))

    def write(self, path):
        """Writes every problem as a row of `kind,path,reason`, beside its place and renamed into it; an `InputError`
        where it cannot."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("kind", "path", "reason"))
        writer.writerows(map(_cell, (p.kind, p.path, p.reason)) for p in self.problems)
        write_atomically(path, text.getvalue())


def _cell(text):
    """Text that a spreadsheet takes for text: names of strangers must not be formulas."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def say(text):
    """Says something of one file where no `Report` is made, such as while a model is trained or asked: a warning of
    Python's, once for each text."""
    warnings.warn(printable(text), stacklevel=3)
