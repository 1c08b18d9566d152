"""The search programme: `python -m tuning DATA`, from a checkout; not part of the installed package."""
