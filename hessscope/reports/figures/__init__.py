"""Figures of results, each in one file."""
