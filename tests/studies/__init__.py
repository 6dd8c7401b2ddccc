"""Experiments whose tables stand in the documentation; run with ``python -m studies.NAME``."""
