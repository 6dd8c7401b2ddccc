"""hessscope: Hessian spectra of trained PyTorch checkpoints."""

__version__ = "0.1.0"
