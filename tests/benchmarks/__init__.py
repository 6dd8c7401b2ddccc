"""Benchmarks: hessscope beside its peers, and how its cost grows (``make bench``)."""
