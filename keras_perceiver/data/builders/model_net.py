"""ModelNet for tensorflow-datasets: meshes of everyday things, from the OFF files of its authors."""

import os
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_perceiver._checks import InputError, require
from keras_perceiver.data.point_files import load_cloud
from keras_perceiver.data.reports import some_of

CLASSES = {
    "40": (
        *("airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup"),
        *("curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop"),
        *("mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa"),
        *("stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox"),
    ),
    "10": ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"),
}


class ModelNet(tfds.core.GeneratorBasedBuilder):
    """ModelNet40 and ModelNet10: 12,311 and 4,899 meshes with the split of their authors.

    An example is `{"mesh": {"vertices": (n, 3) float32, "faces": (f, 3) int32}, "label", "file"}`; coordinates are
    about the mean of the vertices. A set that was unpacked in part holds the classes that are there; files that cannot
    be read are left out, counted and named in `info.metadata["notes"]`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The first one."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"ModelNet{name}, {len(CLASSES[name])} classes.")
        for name in CLASSES
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack ModelNet40.zip or ModelNet10.zip of https://modelnet.cs.princeton.edu in this folder, so that it holds
    ModelNet40/<class>/<train or test>/<name>.off.
    """

    def _info(self):
        array = {"shape": (None, 3), "encoding": "zlib"}
        features = {
            "mesh": {
                "vertices": tfds.features.Tensor(dtype=np.float32, **array),
                "faces": tfds.features.Tensor(dtype=np.int32, **array),
            },
            "label": tfds.features.ClassLabel(names=CLASSES[self.builder_config.name]),
            "file": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Meshes of everyday things in 40 or 10 classes.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("mesh", "label"),
            homepage="https://modelnet.cs.princeton.edu",
            citation="Wu et al., 3D ShapeNets: A Deep Representation for Volumetric Shapes, CVPR 2015",
            metadata=tfds.core.MetadataDict(notes=[]),
        )

    def _split_generators(self, dl_manager):
        root = dl_manager.manual_dir / f"ModelNet{self.builder_config.name}"
        return {split: self._generate_examples(root, split) for split in ("train", "test")}

    def _generate_examples(self, root, split):
        files = sorted(
            (name, path) for name in self.info.features["label"].names for path in (root / name / split).glob("*.off")
        )
        require(
            bool(files),
            f"The folder must hold <class>/{split}/<name>.off, as in the .zip file of the set",
            folder=str(root),
        )
        broken = []
        for name, path in files:
            try:
                cloud = load_cloud(os.fspath(path), ".off", name=path.name)
            except InputError as error:
                broken.append(str(error))
                continue
            faces = np.zeros((0, 3)) if cloud.faces is None else cloud.faces
            mesh = {"vertices": cloud.points.astype(np.float32), "faces": faces.astype(np.int32)}
            yield path.name, {"mesh": mesh, "label": name, "file": f"{name}/{split}/{path.name}"}
        require(len(broken) < len(files), f"A mesh of the {split} split must be readable", broken=broken[:3])
        if broken:
            left_out = f"left out {len(broken):,} meshes of the {split} split: {some_of(broken)}"
            self.info.metadata["notes"].append(left_out)
