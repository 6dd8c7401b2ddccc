"""``python -m hessscope``: the same as the command ``hessscope``."""

from hessscope_cli.main import run

if __name__ == "__main__":
    run()
