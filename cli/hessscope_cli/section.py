"""``hessscope section``: the loss between checkpoints, or along eigenvectors at one."""

from __future__ import annotations

from hessscope.options.section import SectionOptions
from hessscope_cli.commands import Screen, answer, with_default_out

EXAMPLES = """
hessscope section a.pt b.pt --data mnist --plot between.png

hessscope section a.pt b.pt c.pt --data mnist --plot plane.png

hessscope section model.pt --data digits --along highest --reach 0.5 --plot curvature.png
"""


def section(options: SectionOptions, screen: Screen) -> None:
    """The loss on a line or a plane: between checkpoints, or along eigenvectors at one.

    With one checkpoint the directions are eigenvectors of the Hessian of its
    largest and smallest eigenvalue; with two it is the line between them, with
    three the plane. Writes a record (HDF5) and, on request, a figure.
    """
    from hessscope.pipeline.outputs import save_figure, save_record
    from hessscope.pipeline.sections import run_section
    from hessscope_cli import render_section

    answer(
        with_default_out(options, options.points[0], "section"),
        screen,
        run_section,
        save_record,
        save_figure,
        show=render_section.section,
    )
