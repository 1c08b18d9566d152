"""Looking at data before a model does: counts, sizes, duplicates, broken files, and a sheet of examples."""

import collections
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from keras_perceiver._checks import given, printable, require_folder
from keras_perceiver.data import MODALITIES, load_source
from keras_perceiver.data.examples import in_parallel
from keras_perceiver.data.pipeline import fields
from keras_perceiver.data.reports import NAMED
from keras_perceiver.training.configuration import resolved_recipe
from keras_perceiver.training.feeding import augmentation, hiding
from keras_perceiver.training.plots import plain, save

SHEET = "sheet.png"
SHEET_CLASSES, SHEET_EXAMPLES, SHEET_VERSIONS = 10, 3, 2  # rows; examples a row, and augmented versions of each
TABLE_CLASSES = 50  # rows of the table; JSON has all


@dataclass(frozen=True)
class Inspection:
    """What is in a data set.

    Attributes:
        name, modality: see `Source`.
        enters_as: the shape in which an example enters the model, for people.
        counts: `{class: {split: number of examples}}`; an example with several labels counts for each.
        examples: `{split: number of examples}`.
        sizes: `[[H, W], number of examples]`, the most frequent first, as they are stored.
        range: smallest and largest number stored.
        as_resized: whether sizes, range and duplicates are those of examples as they enter the model, and not as they
            are stored: for pictures of tensorflow-datasets, which are resized when they are read.
        duplicates: groups of examples that are equal once they are decoded:
            `{"examples": [[split, name], ..], "across_splits": bool, "labels_differ": bool}`.
        problems: `{"kind", "path", "reason"}` of everything that was skipped.
        notes: what else is to be said.
        sheet: path of the drawing of examples.
    """

    name: str
    modality: str
    enters_as: str
    counts: dict[str, dict[str, int]]
    examples: dict[str, int]
    sizes: list
    range: tuple[int, int]
    as_resized: bool
    duplicates: list[dict]
    problems: list[dict]
    notes: list[str]
    sheet: str

    def to_json(self):
        """All of it, indented."""
        return json.dumps(asdict(self), indent=2)

    def table(self):
        """Classes and splits for people, as a `rich` table."""
        splits = list(self.examples)
        table = Table(title=printable(self.name), title_style="bold")
        table.add_column("class", overflow="fold")
        for split in splits:
            table.add_column(split, justify="right")
        for name, row in list(self.counts.items())[:TABLE_CLASSES]:
            table.add_row(Text(printable(name)), *(f"{row[split]:,}" for split in splits))
        if len(self.counts) > TABLE_CLASSES:
            table.add_row(f"and {len(self.counts) - TABLE_CLASSES:,} more", *("" for _ in splits))
        table.add_section()
        table.add_row("all", *(f"{total:,}" for total in self.examples.values()))
        return table

    def lines(self):
        """The rest for people: sentences."""
        sizes = ", ".join(f"{' x '.join(map(str, size))} ({count:,})" for size, count in self.sizes[:NAMED])
        more = f" and {len(self.sizes) - NAMED:,} other sizes" if len(self.sizes) > NAMED else ""
        how = "as resized" if self.as_resized else "stored as"
        lines = [
            f"{self.modality}: {how} {sizes}{more}; numbers from {self.range[0]} to {self.range[1]}",
            f"they enter the model as {self.enters_as}",
        ]
        return [*lines, *(_duplicate_line(self.duplicates, across) for across in (False, True)), *self.notes]


def inspect_data(data, *, output=None, source=None, preprocess=None, recipe=None, console=None):
    """Looks at a data set: what it holds, what is wrong with it, and how its examples enter a model.

    Args:
        data: see `load_source`.
        output: folder for the sheet of examples; None for `inspections/<name>`. A sheet that is there is replaced.
        source: dictionary of arguments of `load_source`.
        preprocess: dictionary of arguments of what stands before the model, see `preprocess_images`.
        recipe: dictionary of attributes of `Recipe` in place of the preset's: its augmentation is drawn.
        console: `rich.console.Console` for progress bars; None for none.

    Returns:
        `Inspection`.

    Raises:
        InputError: where the data cannot be used, see `load_source`.
    """
    source, preprocess = load_source(data, console=console, **given(source)), given(preprocess)
    output = Path(output or f"inspections/{source.name}")
    require_folder(output=output)
    facts = {name: _facts(source, split, console) for name, split in source.splits.items()}
    everything = [fact for some in facts.values() for fact in some]
    draw_sheet(
        source, resolved_recipe(source, recipe or {}, preprocess=preprocess), output / SHEET, preprocess=preprocess
    )
    classes = len(source.class_names)
    counts = {name: split.class_counts(classes).tolist() for name, split in source.splits.items()}
    sizes = collections.Counter(tuple(fact["size"]) for fact in everything)
    return Inspection(
        name=source.name,
        modality=source.modality,
        enters_as=_entering_shape(source, preprocess),
        counts={c: {name: counts[name][i] for name in counts} for i, c in enumerate(source.class_names)},
        examples={name: len(split) for name, split in source.splits.items()},
        as_resized=(source.data or "").startswith("tfds:") and source.splits["train"].facts is None,
        sizes=[[list(size), count] for size, count in sizes.most_common()],
        range=(min(fact["low"] for fact in everything), max(fact["high"] for fact in everything)),
        duplicates=find_duplicates(source.splits, facts),
        problems=[asdict(problem) for problem in source.report.problems],
        notes=source.report.lines(),
        sheet=str(output / SHEET),
    )


def _facts(source, split, console):
    """The facts of each example: from the scan of its file, or from the example."""
    if split.facts is not None:
        return split.facts
    facts_of = MODALITIES[source.modality].facts_of
    return list(in_parallel(lambda i: facts_of(split.examples[i]), range(len(split)), "examining", console))


def find_duplicates(splits, facts):
    """Groups of examples that are equal, decoded: see `Inspection.duplicates`."""
    groups = collections.defaultdict(list)
    for name, some in facts.items():
        for index, fact in enumerate(some):
            groups[fact["hash"]].append((name, index))
    return [
        {
            "examples": [[name, splits[name].names[index]] for name, index in group],
            "across_splits": len({name for name, _ in group}) > 1,
            "labels_differ": len({splits[name].labels[index].tobytes() for name, index in group}) > 1,
        }
        for group in groups.values()
        if len(group) > 1
    ]


def _duplicate_line(duplicates, across):
    groups = [group for group in duplicates if group["across_splits"] == across]
    where = "across splits" if across else "within a split"
    if not groups:
        return f"no duplicates {where}"
    named = "; ".join(" = ".join(printable(name) for _, name in group["examples"][:NAMED]) for group in groups[:NAMED])
    differ = sum(group["labels_differ"] for group in groups)
    line = f"{len(groups):,} groups of duplicates {where}: {named}" + ("; .." if len(groups) > NAMED else "")
    return line + (f". In {differ:,} of them the labels differ" if differ else "")


def _entering_shape(source, preprocess):
    """How one example enters the model, its mask aside: `28 x 28 x 1`; several inputs with their names."""
    shape = MODALITIES[source.modality].input_shape(source.example_shape, **preprocess)
    shapes = shape if isinstance(shape, dict) else {source.modality: shape}
    said = {name: " x ".join(map(str, sizes)) for name, sizes in shapes.items()}
    return next(iter(said.values())) if len(said) == 1 else ", ".join(f"{name} {text}" for name, text in said.items())


def draw_sheet(source, recipe, path, *, preprocess=None, seed=0):
    """Draws training examples of each class as they enter the model, each beside augmented versions of itself."""
    kind, split, preprocess = MODALITIES[source.modality], source.splits["train"], preprocess or {}
    shape = source.example_shape
    before, augment, hide = kind.preprocess(shape, **preprocess), augmentation(source, recipe), hiding(source, recipe)

    def draw(axes, clip, seed=None):
        """A window as it enters the model; with a seed what training hides is hidden."""
        example = before(clip) if seed is None or hide is None else hidden(before(clip), seed)
        kind.draw(axes, example, **({"clip": clip} if kind.draws_clip else {}))

    def hidden(example, seed):
        batch = tf.nest.map_structure(lambda x: x[None], example)
        return tf.nest.map_structure(lambda x: x[0], hide(batch, seed))

    classes = range(min(len(source.class_names), SHEET_CLASSES))
    columns = SHEET_EXAMPLES * (1 + SHEET_VERSIONS)
    figure = Figure(figsize=(1.6 + columns, 0.9 + 1.04 * len(classes)), layout="constrained")
    grid = figure.subplots(len(classes), columns, squeeze=False)
    for row, number in enumerate(classes):
        members = split.labels[:, number] if split.is_multi_label else split.labels == number
        chosen = np.flatnonzero(members)[:SHEET_EXAMPLES]
        for place in range(SHEET_EXAMPLES):
            cells = grid[row, place * (1 + SHEET_VERSIONS) :][: 1 + SHEET_VERSIONS]
            if place < len(chosen):
                stored = fields(split.examples[int(chosen[place])])
                raw = stored if isinstance(stored, dict) else tf.cast(stored, tf.float32)
                whole = raw if kind.clip is None else kind.clip(raw, shape, 0, 1)
                draw(cells[0], whole)
                for version, axes in enumerate(cells[1:]):
                    draws = tf.constant([seed, 1000 * row + 100 * place + version])
                    draw(axes, augment(raw, draws), draws)
            _dress(cells, place < len(chosen))
        grid[row, 0].set_ylabel(_short(source.class_names[number]), rotation=0, ha="right", va="center", fontsize=10)
    for place in range(SHEET_EXAMPLES):
        for offset in range(1 + SHEET_VERSIONS):
            grid[0, place * (1 + SHEET_VERSIONS) + offset].set_title("augmented" if offset else "as it is", fontsize=9)
    more = len(source.class_names) - len(classes)
    shape = _entering_shape(source, preprocess)
    figure.suptitle(
        plain(f"{source.name}: training examples as they enter the model, {shape}")
        + (f"; {more:,} more classes" if more > 0 else ""),
        fontsize=11,
    )
    save(figure, path)


def _dress(cells, is_used):
    """No ticks; a frame around what is as it is, so that each example stands beside its own versions."""
    for offset, axes in enumerate(cells):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(is_used and offset == 0)
        axes.spines[:].set(color="#d1603d", linewidth=1.5)


def _short(name, length=16):
    return plain(name if len(name) <= length else name[: length - 1] + "…")
