"""What XLA has compiled for one run, kept for the runs of other seeds."""

import atexit
import os
import shutil
import tempfile

FLAGS, DIRECTORY = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory="


def keep_compiled():
    """Has XLA keep what it compiles in a folder of this process, and take it from there when the same comes again.

    The runs of an arm differ in their seed alone and are the same programs. The folder goes when Python ends, as such
    files fit this machine and this TensorFlow only. It is without effect where XLA has been used before in the process,
    or somebody has chosen a folder: TensorFlow reads its flags once.
    """
    flags = os.environ.get(FLAGS, "")
    if DIRECTORY in flags:
        return
    folder = tempfile.mkdtemp(prefix="keras-perceiver-xla-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[FLAGS] = f"{flags} {DIRECTORY}{folder}".strip()
