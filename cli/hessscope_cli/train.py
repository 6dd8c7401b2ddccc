"""``hessscope train``: networks trained as in the papers."""

from __future__ import annotations

from hessscope.options.train import TrainOptions
from hessscope_cli.commands import Screen, answer
from hessscope_cli.exit_codes import DONE, INTERRUPTED, NOT_CONVERGED
from hessscope_cli.terminal import show_error

EXAMPLES = """
hessscope train --arch mlp:64-16-10:tanh --data digits --epochs 30 --save-every 5

hessscope train --arch mlp:784-25-10:relu --data mnist --optimizer nesterov --stop-tolerance 1e-4

hessscope train --preset sankar2017 --trials 8 --out sankar

hessscope train --arch mlp:784-10-784 --data mnist --targets inputs --loss mse --out ae

hessscope train --start run/epoch_20.pt --optimizer sgd --learning-rate 0.01 --out run2
"""


def train(options: TrainOptions, screen: Screen) -> int:
    """Train a network and keep its checkpoints.

    Every checkpoint is an ordinary torch file that states network, data and loss,
    so that hessscope spectrum run/epoch_10.pt needs nothing else. Ctrl-C keeps
    every epoch that was finished; rerun the command to resume.
    """
    from hessscope.pipeline.training_runs import run_training
    from hessscope_cli.render_training import training

    report = answer(options, screen, run_training, show=training)
    if report.interrupted:
        again = " without `overwrite`" if options.overwrite else ""
        show_error(
            f"interrupted; every epoch that was finished is in {report.folder}: rerun the same "
            f"command{again} to resume"
        )
        return INTERRUPTED
    stopped = [trial for trial in report.trials if not trial.finished]
    for trial in stopped:
        which = f"trial {trial.trial}: " if len(report.trials) > 1 else ""
        kept = f"; {trial.checkpoint} is the last epoch before" if trial.checkpoint else ""
        remedy = "; give a smaller `learning_rate`" if trial.status == "non_finite" else ""
        show_error(f"{which}{trial.reason}{kept}{remedy}")
    return NOT_CONVERGED if stopped else DONE
