"""What a study has found: a table for people, for spreadsheets and for programs, and a picture."""

import csv
import io
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from keras_perceiver._checks import printable
from keras_perceiver._files import write_atomically
from keras_perceiver.training.plots import TRAINING, VALIDATION, plain, save


@dataclass(frozen=True)
class ArmResult:
    """One arm of a study, over the seeds that are finished.

    Attributes:
        name: of the arm.
        network, model, source: see `Arm`.
        figure: what `values` are: "accuracy" or "mean_average_precision", on the test split.
        values: `{seed: figure}`.
        mean: of the values.
        spread: their sample standard deviation; None for one seed.
        num_inputs: M of a Perceiver's byte array.
        parameters: of the network.
        flops, textbook_flops: of a forward pass of one example, see `describe`.
        examples_seen: in training, by each run.
        training_seconds: of all epochs with validation and compilation, mean over the seeds.
        seconds_per_example: of training and validation, in the median epoch of all seeds.
        peak_bytes: the most memory above the idle process while it trained, of any seed; None where not known.
    """

    name: str
    network: str
    model: dict
    source: dict
    figure: str
    values: dict[int, float]
    mean: float
    spread: float | None
    num_inputs: int | None
    parameters: int
    flops: int
    textbook_flops: int
    examples_seen: int
    training_seconds: float
    seconds_per_example: float
    peak_bytes: int | None

    @classmethod
    def of(cls, planned, metrics, costs):
        """From a `PlannedArm`, `{seed: metrics}` and the costs of these runs."""
        figure = next(name for name in ("accuracy", "mean_average_precision") if name in next(iter(metrics.values())))
        values = {seed: float(m[figure]) for seed, m in metrics.items()}
        peaks = [cost["peak_bytes"] for cost in costs if cost["peak_bytes"] is not None]
        return cls(
            name=planned.name,
            network=planned.arm.network,
            model=planned.arm.model,
            source=planned.arm.source,
            figure=figure,
            values=values,
            mean=statistics.mean(values.values()),
            spread=statistics.stdev(values.values()) if len(values) > 1 else None,
            num_inputs=planned.num_inputs,
            parameters=planned.description.parameters,
            flops=planned.description.flops,
            textbook_flops=planned.description.textbook_flops,
            examples_seen=planned.examples_seen,
            training_seconds=statistics.mean(sum(cost["epoch_seconds"]) for cost in costs),
            seconds_per_example=_median_epoch(costs) / (planned.examples_seen / planned.config["training"]["epochs"]),
            peak_bytes=max(peaks) if peaks else None,
        )

    def cells(self):
        """`{column: text}` of the table."""
        return {
            "arm": printable(self.name),
            self.figure.replace("_", " "): f"{self.mean:.2%}",
            "spread": "" if self.spread is None else f"{self.spread:.2%}",
            "seeds": str(len(self.values)),
            "inputs": "" if self.num_inputs is None else f"{self.num_inputs:,}",
            "parameters": f"{self.parameters:,}",
            "MFLOP": f"{self.flops / 1e6:,.1f}",
            "training s": f"{self.training_seconds:,.1f}",
            "ms an example": f"{1e3 * self.seconds_per_example:.2f}",
            "MB": "" if self.peak_bytes is None else f"{self.peak_bytes / 1e6:,.0f}",
        }


@dataclass(frozen=True)
class StudyResult:
    """A study so far. In its folder stand `study.md`, `study.csv`, `study.json` and `study.png`.

    Attributes:
        question, asks: key of `QUESTIONS`, and what it asks.
        data: name of the data set.
        test_examples: how many the figures are measured on.
        left_out: `{arm: why it cannot be built for the data}`.
        failed: `{"<arm>, seed <seed>": why its run has not ended}`.
        folder: of the study.
        arms: list of `ArmResult`.
    """

    question: str
    asks: str
    data: str
    test_examples: int
    left_out: dict[str, str]
    failed: dict[str, str]
    folder: str
    arms: list[ArmResult]

    def to_json(self):
        """All of it, indented."""
        return json.dumps(asdict(self), indent=2)

    def lines(self):
        """What the table does not say: sentences."""
        seen = self.arms[0].examples_seen
        return [
            f"Each run saw {seen:,} examples; figures are of {self.test_examples:,} test examples.",
            "Spread: sample standard deviation over the seeds. MFLOP: forward pass of one example. Training s: mean "
            "over the seeds, with validation and compilation. ms an example: of training, validation beside it, in the "
            "median epoch; of one epoch alone, with its compilation. MB: most memory above the idle process while it "
            "trained; the first run of a process also holds what TensorFlow loads once.",
            *(f"Left out: {name}. {reason}" for name, reason in self.left_out.items()),
            *(f"Failed: {name}. {reason}" for name, reason in self.failed.items()),
        ]

    def table(self):
        """The arms for people, as a `rich` table."""
        columns, *rows = self._rows()
        table = Table(box=box.SIMPLE_HEAD, title=Text(printable(f"{self.question}: {self.data}")))
        for column in columns:
            table.add_column(column, justify="left" if column == "arm" else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    def write_tables(self):
        """Writes `study.md`, `study.csv` and `study.json`."""
        folder, (columns, *rows) = Path(self.folder), self._rows()
        table = markdown_table(columns, rows, left=columns[:1])
        text = [f"# {self.question}: {printable(self.data)}", self.asks, table, *self.lines()]
        write_atomically(folder / "study.md", "\n\n".join(text) + "\n")
        write_atomically(folder / "study.json", self.to_json() + "\n")
        write_atomically(folder / "study.csv", self._csv())

    def write_picture(self):
        """Draws `study.png`: what each arm reaches, and what it costs."""
        names = [plain(arm.name) for arm in self.arms]
        places = range(len(names))
        figure = Figure(figsize=(12, 1.6 + 0.36 * len(names)), layout="constrained")
        accuracy, *others = figure.subplots(1, 4, sharey=True, width_ratios=(2, 1, 1, 1))
        for place, arm in enumerate(self.arms):
            values = list(arm.values.values())
            accuracy.scatter(values, [place] * len(values), s=14, color=TRAINING, alpha=0.6, linewidths=0)
            accuracy.plot([arm.mean] * 2, [place - 0.3, place + 0.3], color=VALIDATION, linewidth=2)
        accuracy.set(title=f"test {self.arms[0].figure.replace('_', ' ')}", yticks=places, yticklabels=names)
        accuracy.invert_yaxis()
        accuracy.xaxis.set_major_formatter("{x:.1%}")
        costs = (
            ("MFLOP", [arm.flops / 1e6 for arm in self.arms]),
            ("ms an example", [1e3 * arm.seconds_per_example for arm in self.arms]),
            ("MB", [(arm.peak_bytes or 0) / 1e6 for arm in self.arms]),
        )
        for axes, (title, values) in zip(others, costs, strict=True):
            axes.barh(places, values, color=TRAINING, height=0.6)
            axes.set(title=title)
        for axes in (accuracy, *others):
            axes.grid(axis="x", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(plain(f"{self.data}: {self.asks}"))
        save(figure, Path(self.folder) / "study.png")

    def _rows(self):
        """The names of the columns, and a row for each arm."""
        cells = [arm.cells() for arm in self.arms]
        return [list(cells[0]), *(list(row.values()) for row in cells)]

    def _csv(self):
        """A row for each run: the arm's figures in full, its seed and its figure."""
        text = io.StringIO()
        facts = ("num_inputs", "parameters", "flops", "textbook_flops", "examples_seen")
        facts += ("training_seconds", "seconds_per_example", "peak_bytes")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("arm", "network", "seed", self.arms[0].figure, *facts))
        for arm in self.arms:
            for seed, value in arm.values.items():
                writer.writerow((arm.name, arm.network, seed, value, *(getattr(arm, name) for name in facts)))
        return text.getvalue()


def markdown_table(columns, rows, left=()):
    """A table in Markdown of rows of text; columns stand at the right but for those named in `left`."""
    marks = ["---" if column in left else "---:" for column in columns]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (columns, marks, *rows)
    )


def _median_epoch(costs):
    return statistics.median(seconds for cost in costs for seconds in cost["epoch_seconds"])
