"""Results as a few lines of text, and as a small table in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_MOST = 8


def few(texts: Iterable[str]) -> str:
    """The first texts, separated by commas, and how many more there are."""
    every = list(texts)
    more = [f"… ({len(every) - _MOST} more)"] if len(every) > _MOST else []
    return ", ".join([*every[:_MOST], *more])


class Summarised:
    """A result that is shown by its ``summary``, whatever arrays it holds."""

    def summary(self) -> Mapping[str, str]:
        """The facts that tell what it is, by their names."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self.summary()
        width = max(map(len, facts), default=0)
        lines = (f"  {name:<{width}}  {value}" for name, value in facts.items())
        return "\n".join((type(self).__name__, *lines))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(name)}</th>'
            f'<td style="text-align: left">{escape(value)}</td></tr>'
            for name, value in self.summary().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"
