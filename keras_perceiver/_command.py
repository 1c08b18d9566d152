"""The console script. Installed beside the package, as `keras_perceiver_command`.

Python imports a package before any of its modules, ours imports Keras, and Keras imports
TensorFlow, which writes several lines about absent GPU drivers to stderr of a machine that has none:
more than our own error messages. The command therefore begins outside the package.
"""

import os
import sys
import tempfile


def main():
    """Loads the command line with the native libraries' notes held back, and runs it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters is raised as an exception as well
    load_quietly()()


def load_quietly():
    """Imports the command line; what is written to stderr meanwhile is shown only if that fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            from keras_perceiver.cli import app
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    return app
