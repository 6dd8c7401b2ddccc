"""``python -m hessscope``: the same as the command ``hessscope``."""

from hessscope_cli.main import run

run()
