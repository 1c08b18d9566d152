"""The search programme: `python -m tuning DATA`, from a checkout; not part of the installed package."""

import os

# TensorFlow's notes on absent GPU drivers; what matters is raised as an exception as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each process takes of a GPU's memory what it needs: by default the first one takes all, and the others have none.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
