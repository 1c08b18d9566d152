"""A folder -> its labelled files, before any of them is opened.

Three layouts: `<class>/<file>`, `<split>/<class>/<file>`, and a `labels.csv` with the columns file, label (several
separated by `;` or `|`) and perhaps split. Nothing outside the folder is ever read.
"""

import collections
import csv
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from keras_perceiver._checks import InputError, nearest, require
from keras_perceiver.data.images import is_animated
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.reports import Problem

LABELS = "labels.csv"
GIFS = 64  # of a folder of nothing else are opened to see whether they move
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Item:
    """One file: its path relative to the folder (with `/`), its labels, and its split if the folder gives one."""

    path: str
    labels: tuple[str, ...]
    split: str | None = None


@dataclass
class Listing:
    """The labelled files of a folder, sorted by path, its folders, and what was passed over."""

    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    modality: str = ""
    notes: list[str] = field(default_factory=list)

    def skip(self, kind, path, reason):
        self.problems.append(Problem(kind, path, reason))


def list_folder(folder, modality=None):
    """Finds the labelled files of a folder.

    Args:
        folder: its path.
        modality: key of `MODALITIES`; None for the one that most files have, by their names. Where "audio" is asked for
            and most files are films, those are taken for their sound.

    Returns:
        `Listing`.

    Raises:
        InputError: where the folder cannot be read, no file fits a modality, folders may be splits or classes, labels
            differ in case only, or `labels.csv` is not legal.
    """
    root, listing = Path(folder).resolve(), Listing()
    files = sorted(_walk(root, listing))
    has_table = LABELS in files
    if has_table:
        files.remove(LABELS)
    listing.modality, listing.notes = (modality, []) if modality else recognise(files, folder)
    extensions = _extensions(files, listing.modality)
    known = []
    for path in files:
        if path.lower().endswith(extensions):
            known.append(path)
        else:
            listing.skip("not of this modality", path, f"an {listing.modality} ends in {', '.join(extensions)}")
    if has_table:
        _from_table(root, known, listing)
    else:
        _from_folders(known, listing)
    listing.items.sort(key=lambda item: item.path)
    check_names({label for item in listing.items for label in item.labels})
    return listing


def _extensions(files, modality):
    """How files that are taken end: with `asked_extensions` where most have one, as they never have where the modality
    was recognised by them."""
    kind = MODALITIES[modality]
    own, others = (
        sum(path.lower().endswith(ends) for path in files) for ends in (kind.extensions, kind.asked_extensions)
    )
    return kind.extensions + (kind.asked_extensions if others > own else ())


def recognise(files, folder):
    """`(modality, sentences)`: that of most of these files, by the ends of their names.

    GIFs alone, which may be pictures or films, are what most of the first of them are: films where they have several
    frames.
    """
    counts = collections.Counter(
        name for path in files for name, kind in MODALITIES.items() if path.lower().endswith(kind.extensions)
    )
    known = "; ".join(f"{name}: {', '.join(kind.extensions)}" for name, kind in MODALITIES.items())
    require(bool(counts), f"`data` must be a folder with files of a known modality ({known})", data=str(folder))
    gifs = [path for path in files if path.lower().endswith(".gif")]
    if not gifs or not counts["image"] == counts["video"] == len(gifs):
        return counts.most_common(1)[0][0], []
    some = gifs[:: -(-len(gifs) // GIFS)]
    moving = sum(is_animated(Path(folder) / path) for path in some)
    found, other = ("video", "image") if 2 * moving > len(some) else ("image", "video")
    what = f"{moving:,} of {len(some):,} GIFs that were looked at have several frames"
    return found, [f"{what}: they are taken as modality {found!r}, which `--modality {other}` changes"]


def check_names(names):
    """Requires class names that stay apart where a file system or a reader ignores case."""
    seen = {}
    for name in sorted(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        require(
            other == name,
            "Classes must differ in more than case",
            classes=(other, name),
            repair="Join the two, or rename one.",
        )


def _walk(root, listing):
    """Yields the files below the root, relative to it; what leaves it, hides or cannot be opened is passed over."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            readable = "`data` must be a folder that can be read"
            require(folder != root, readable, data=str(root), repair=f"({error.strerror})")
            listing.skip("folder", os.path.relpath(folder, root), error.strerror)
            continue
        for entry in entries:
            path = PurePosixPath(os.path.relpath(entry.path, root)).as_posix()
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            if entry.name.startswith("."):
                listing.hidden.append(shown)
            elif not _is_text(path):
                listing.skip("name", shown, "is no Unicode")
            elif entry.is_symlink() and not _stays_inside(entry.path, root):
                listing.skip("link", path, "leads out of the folder, to nothing or to a folder")
            elif entry.is_dir():
                listing.folders.append(path)
                waiting.append(entry.path)
            elif entry.is_file():
                yield path
            else:
                listing.skip("not a file", path, "is a pipe, a socket or a device")


def _is_text(path):
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _stays_inside(path, root):
    """Whether a link leads to a file below the root."""
    target = Path(os.path.realpath(path))
    return target.is_relative_to(root) and os.path.isfile(target)


def _from_folders(files, listing):
    """Labels from the names of folders."""
    splits = _split_folders(files, listing)
    depth = 1 if splits else 0  # of the folders that are classes
    others = {path for path in listing.folders if "/" not in path and path not in splits} if splits else set()
    for path in sorted(others):
        listing.skip("folder of no split", path, "stands beside the folders of the splits")
    for path in files:
        *above, _ = path.split("/")
        if above and above[0] in others:
            continue
        if len(above) <= depth:
            listing.skip("file without label", path, "lies in no class's folder")
        else:
            split = splits[above[0]] if splits else None
            listing.items.append(Item(path, (unicodedata.normalize("NFC", above[depth]),), split))
    used = {"/".join(item.path.split("/")[: depth + 1]) for item in listing.items}
    for path in sorted(listing.folders):
        if path.count("/") == depth and path not in used and path.split("/")[0] not in others:
            listing.skip("empty class", path, "holds no file that can be used")


def _split_folders(files, listing):
    """`{folder: its split}` where the folders at the top are splits; nothing where they are classes.

    They are splits where one is `train` and the files of all that have such names lie in folders of their own. Folders
    of other names may then stand beside them, unless `train` is the only split: then they may be classes as well.
    """
    named = {p: SPLIT_NAMES[p.lower()] for p in sorted(listing.folders) if p.lower() in SPLIT_NAMES}
    depths = collections.defaultdict(set)  # of the files in each folder at the top
    for path in files:
        folder, *below = path.split("/")
        if below:
            depths[folder].add(min(len(below), 2))
    used = [name for name in named if name in depths]
    found = set().union(*(depths[name] for name in used))
    has_train, are_alone = "train" in named.values(), len(used) == len(depths)
    if not used or (not are_alone and (not has_train or found == {1})) or (len(used) == 1 and not has_train):
        return {}
    require(
        has_train and (are_alone or (found == {2} and len(used) > 1)),
        "It must be clear whether the folders of `data` are splits or classes",
        folders=sorted(depths),
        repair=f"Move away or rename what is not meant, add `train`, or write a `{LABELS}`.",
    )
    require(len(set(named.values())) == len(named), "There must be one folder for each split", folders=list(named))
    return named


def _from_table(root, files, listing):
    """Labels from `labels.csv`."""
    files, seen = set(files), {}
    by_form = {unicodedata.normalize("NFC", path): path for path in files}
    for line, path, labels, split in _rows(root / LABELS):
        if path not in files:  # the same letters may be written in several ways
            path = by_form.get(unicodedata.normalize("NFC", path), path)
        known = seen.setdefault(path, (labels, split))
        require(
            known == (labels, split),
            f"`{LABELS}` must give a file one label, or several in one row",
            file=path,
            line=line,
        )
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            listing.skip("file outside", path, f"line {line} of {LABELS} leads out of the folder")
    skipped, hidden = {problem.path for problem in listing.problems}, set(listing.hidden)
    for path, (labels, split) in seen.items():
        if path in files:
            if labels:
                listing.items.append(Item(path, labels, split))
            else:
                listing.skip("file without label", path, f"its label in {LABELS} is empty")
        elif not hidden.isdisjoint((path, *map(str, PurePosixPath(path).parents))):
            listing.skip("label without file", path, f"stands in {LABELS} and is hidden, or lies in a hidden folder")
        elif path not in skipped:
            listing.skip("label without file", path, f"stands in {LABELS} and not in the folder")
    for path in sorted(files - seen.keys()):
        listing.skip("file without label", path, f"does not stand in {LABELS}")


def _rows(path):
    """Yields (line, file, labels, split) of each row of `labels.csv`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            require(
                {"file", "label"} <= set(columns) <= {"file", "label", "split"} and len(set(columns)) == len(columns),
                f"`{LABELS}` must have the columns file, label and, if need be, split",
                columns=columns,
            )
            for row in reader:
                require(
                    None not in row and None not in row.values(),
                    f"Every row of `{LABELS}` must have as many fields as there are columns",
                    line=reader.line_num,
                )
                labels = tuple(sorted({_text(t) for t in row["label"].replace("|", ";").split(";") if t.strip()}))
                yield reader.line_num, _relative(row["file"]), labels, _split_of(row.get("split"), reader.line_num)
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"`{path}` must be a readable table of comma-separated values in UTF-8. {error}") from error


def _split_of(text, line):
    """The name of a split as this package knows it; None where the field is empty or there is none."""
    text = (text or "").strip().lower()
    require(
        not text or text in SPLIT_NAMES,
        f"A split in `{LABELS}` must be one of {', '.join(SPLIT_NAMES)}",
        split=text,
        line=line,
        repair=nearest(text, SPLIT_NAMES),
    )
    return SPLIT_NAMES.get(text)


def _relative(text):
    return text.strip().replace("\\", "/").removeprefix("./")


def _text(name):
    """A label in one form: the same letters may be written in several ways in Unicode."""
    return unicodedata.normalize("NFC", name.strip())
