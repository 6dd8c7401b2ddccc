"""Experiments that are too long for tests; the tables in docs/ come from them."""
