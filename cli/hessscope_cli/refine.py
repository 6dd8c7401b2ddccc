"""``hessscope refine``: the critical point near a checkpoint, with its certificate."""

from __future__ import annotations

from hessscope.options.refine import RefineOptions
from hessscope_cli.commands import VerboseScreen, answer
from hessscope_cli.exit_codes import DONE, INTERRUPTED, NOT_CONVERGED

EXAMPLES = """
hessscope refine model.pt --data mnist --subset 5000 --l2 1e-3

hessscope refine model.pt --data mnist --method krylov_sfn --max-iterations 50 --plot trace.png

hessscope refine model.pt --data mnist --resume model.refine.h5 --method newton_mr

hessscope refine model.pt --data digits --json | jq .certificate
"""


def refine(options: RefineOptions, screen: VerboseScreen) -> int:
    """Move a checkpoint to a nearby critical point, classify it, and certify that it is critical.

    Writes the refined checkpoint, a record (HDF5) with the trace, and on request a figure. Ctrl-C
    stops after the step under way and writes what was reached; rerun the command to resume. Exit
    code 3 where the search did not converge.
    """
    from hessscope.pipeline.outputs import save_figure
    from hessscope.pipeline.refine_jobs import with_default_outputs
    from hessscope.pipeline.refine_runs import run_refinement, save_refinement
    from hessscope_cli import render
    from hessscope_cli.search_display import search_display

    report = answer(
        with_default_outputs(options),
        screen,
        run_refinement,
        save_refinement,
        save_figure,
        show=lambda report: render.refinement(report, verbose=screen.verbose),
        display=search_display,
    )
    ends = {"converged": DONE, "interrupted": INTERRUPTED}
    return ends.get(report.status, NOT_CONVERGED)
