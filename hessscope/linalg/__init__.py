"""Lanczos, probes and quadrature; knows products with matrices, never models."""
