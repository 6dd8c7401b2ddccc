"""``hessscope survey``: critical points from many starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from hessscope.options.survey import SurveyOptions
from hessscope_cli import terminal
from hessscope_cli.commands import Screen, answer
from hessscope_cli.exit_codes import DONE, INTERRUPTED, NOT_CONVERGED
from hessscope_cli.layout import add_data, add_fact, add_loss, facts_table, plain_table

if TYPE_CHECKING:
    from hessscope.pipeline.surveys import SurveyReport

EXAMPLES = """
hessscope survey run --trajectory 100 --uniform 100 --out study

hessscope survey --model mlp:16-4-10:tanh --data digits --resize 4 --loss mse --l2 3e-3 --train 5 \
--out digits --plot digits.pdf

hessscope survey run --uniform 0 --method newton --max-iterations 1000 --workers 4

hessscope survey --starts a.pt --starts b.npy --trajectory 0 --uniform 0

hessscope survey run --scheduler tcp://10.0.0.1:8786
"""


def survey(options: SurveyOptions, screen: Screen) -> int:
    """Search for critical points from many starts, in parallel.

    Starts lie along trajectories of training, with noise, and at uniformly sampled weights
    (Dauphin et al. 2014, appendix C). Each search that has ended is stored at once, whatever its
    outcome; after Ctrl-C or a crash, rerun the command to resume. hessscope report FOLDER makes
    tables and figures of it.
    """
    from hessscope.pipeline.outputs import save_figure
    from hessscope.pipeline.surveys import run_study

    report = answer(options, screen, run_study, save_figure, show=_shown)
    result = report.result
    if result.interrupted:
        terminal.show_error(
            f"interrupted; {len(result.outcomes)} of {result.planned} searches are in "
            f"{result.folder}: rerun the command to resume"
        )
        return INTERRUPTED
    if not result.statuses.get("converged"):
        terminal.show_error(
            "no search converged: take another start, method or loss, or more `max_iterations`"
        )
        return NOT_CONVERGED
    return DONE


def _shown(report: SurveyReport) -> list[RenderableType]:
    result, known = report.result, report.facts
    facts = facts_table()
    add_fact(facts, "network", known["architecture"], f"n = {known['parameters']:,}")
    add_data(facts, known)
    add_loss(facts, known)
    added = [f"{result.computed:,} now"] if result.computed < len(result.outcomes) else []
    missing = [f"{result.missing:,} not done"] if result.missing else []
    about = (known["method"], f"seed {known['seed']}", *added, *missing)
    add_fact(facts, "searches", f"{len(result.outcomes):,}", *about)
    if not result.outcomes:
        return [facts]
    origins = [f"{count} {origin}" for origin, count in report.certified_by_origin().items()]
    add_fact(facts, "certified", f"{result.certified:,}", *origins)
    at_origin = int(report.distinct["at_origin"].sum())
    zero = [f"{at_origin} with all weights zero"] if at_origin else []
    add_fact(
        facts, "distinct", f"{len(report.distinct):,}", "up to symmetries of the network", *zero
    )
    if report.correlation is not None:
        value, _, basis = str(report.correlation).partition(" (")
        add_fact(facts, "loss and α", value, basis.removesuffix(")"))
    table = plain_table()
    table.add_column("ended")
    table.add_column("searches", justify="right")
    for status, count in result.statuses.items():
        table.add_row(status, str(count))
    return [facts, table]
