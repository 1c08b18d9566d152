"""AudioSet, and collections in its form, for tensorflow-datasets: local clips, and tables of their labels."""

import csv
import os
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_perceiver._checks import InputError, require
from keras_perceiver.data.audio import MAX_SECONDS, as_int16
from keras_perceiver.data.audio_files import EXTENSIONS, decode_audio
from keras_perceiver.data.reports import broken_off_notes, some_of

SAMPLE_RATE = 48_000  # of the paper's models
MAX_SAMPLES = int(MAX_SECONDS * SAMPLE_RATE)
NAMES = "class_labels_indices.csv"


class AudioSet(tfds.core.GeneratorBasedBuilder):
    """Clips with several labels each.

    An example is `{"audio": (samples,) int16, one channel of 48 kHz, "labels": numbers of classes, "clip": its name}`.
    AudioSet itself is a list of films of which many are gone: clips that are not there, or cannot be decoded, are left
    out, counted and named in `info.metadata["notes"]`, as are those that end early and those of more than a minute.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The first one."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"Trained on {name}_train_segments.csv.")
        for name in ("balanced", "unbalanced")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put into this folder, for AudioSet as https://research.google.com/audioset/download.html has them:
    balanced_train_segments.csv or unbalanced_train_segments.csv, and eval_segments.csv: lines of clip, start, end and
    "label,label,..", where # begins a comment; {NAMES}: columns index, mid and display_name, the label in
    the tables and its name; clips/<clip>.wav (or {", ".join(EXTENSIONS[1:])}), the part of the film from start to end.
    """

    def _info(self):
        features = {
            "audio": tfds.features.Audio(shape=(None,), dtype=np.int16, sample_rate=SAMPLE_RATE),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel()),
            "clip": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Clips of sound with several labels each.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("audio", "labels"),
            homepage="https://research.google.com/audioset",
            citation="Gemmeke et al., Audio Set: An ontology and human-labeled dataset for audio events, ICASSP 2017",
            metadata=tfds.core.MetadataDict(notes=[]),
        )

    def _split_generators(self, dl_manager):
        root = dl_manager.manual_dir
        names = dict(read_names(root / NAMES))
        labels = self.info.features["labels"].feature
        if labels.num_classes is None:  # the first time
            labels.names = list(names.values())
        tables = {"train": f"{self.builder_config.name}_train_segments.csv", "test": "eval_segments.csv"}
        return {split: self._generate_examples(root, table, names) for split, table in tables.items()}

    def _generate_examples(self, root, table, names):
        clips = {path.stem: path for path in (root / "clips").iterdir() if path.suffix.lower() in EXTENSIONS}
        gone, broken_off, cut, count = [], [], [], 0
        for clip, labels, line in read_segments(root / table):
            unknown = sorted(set(labels) - names.keys())
            require(not unknown, f"Labels in {table} must stand in {NAMES}", line=line, labels=unknown)
            try:
                require(clip in clips, f"There must be a file clips/{clip}.*")
                samples, _, ends_early = decode_audio(os.fspath(clips[clip]), SAMPLE_RATE, MAX_SECONDS + 0.1)
            except InputError as error:
                gone.append(f"{clip}: {error}")
                continue
            count += 1
            broken_off += [clip] * ends_early
            cut += [clip] * (len(samples) > MAX_SAMPLES)
            samples = samples[:MAX_SAMPLES]
            yield clip, {"audio": as_int16(samples), "labels": [names[label] for label in labels], "clip": clip}
        require(count > 0, f"At least one clip of {table} must be there", folder=str(root / "clips"), missing=gone[:3])
        notes = [f"left out {len(gone):,} clips of {table}: {some_of(gone)}"] if gone else []
        notes += [f"{table}: {note}" for note in broken_off_notes(broken_off)]
        if cut:
            notes.append(
                f"{table}: {len(cut):,} clips are longer than {MAX_SECONDS:g} s, and end there: {some_of(cut)}"
            )
        self.info.metadata["notes"].extend(notes)


def read_names(path):
    """Yields (label, name) of each class of a table with the columns index, mid and display_name, in its order."""
    with path.open("r") as file:
        reader = csv.DictReader(file)
        columns = {"mid", "display_name"}
        require(columns <= set(reader.fieldnames or ()), f"{path.name} must have the columns {', '.join(columns)}")
        for row in reader:
            yield row["mid"], row["display_name"]


def read_segments(path):
    """Yields (clip, labels, number of the line) of each line of a table of segments."""
    with path.open("r") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            row = next(csv.reader([line], skipinitialspace=True))
            require(
                len(row) == 4 and row[3].strip(),
                f'A line of {path.name} must be a clip, its start, its end and "label,label,.."',
                line=number,
                found=line.strip(),
            )
            yield row[0], [label.strip() for label in row[3].split(",")], number
