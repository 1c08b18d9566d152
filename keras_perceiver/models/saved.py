"""Models that lie in files."""

import zipfile

import keras

from keras_perceiver._checks import InputError, require


def load_saved(path):
    """The model in a `.keras` file, not compiled; code in it is never run.

    Raises:
        InputError: where it is no such file, or cannot be loaded.
    """
    require(path.is_file() and zipfile.is_zipfile(path), "A `.keras` file must be given", path=str(path))
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise InputError(f"`{path}` must be a `.keras` file that can be loaded. {error}") from error
