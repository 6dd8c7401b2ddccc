"""Tables of the results, put between the markers of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

PRODUCT_TARGET, FLOOR_TARGET, BATCHED_TARGET = 0.50, 1.5, 8.0
# Beside the best peer without compiled products, by the network; and with them.
PEER_TARGETS, COMPILED_TARGET = {"MLP": 1.0, "ResNet": 0.5, "GPT": 0.6, "ViT": 0.6}, 1.0
GPT_TARGET = 2.3
# From so many vectors on a product of a block has a target of its own.
WIDE = 16

_DISTURBED = (
    " **Other programs were running**, more than the processors could serve: these times are "
    "disturbed, and say little about the targets."
)
_FIGURE = (
    "![Time and peak memory against examples, parameters, Lanczos steps and probes]"
    "(images/growth.png)"
)
_OTHER_SIZE = " **A smaller problem than the one the target is stated for.**"


def put(page: str, name: str, text: str) -> str:
    """The page with what stands between the markers of ``name`` replaced."""
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end bench -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no markers for {name}")
    return pattern.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def _machine(facts: dict[str, Any]) -> str:
    load = ", ".join(f"{x:.1f}" for x in facts["load"])
    device = f"{facts['device']}, " if "device" in facts else ""
    return (
        f"{device}{facts['cpu']}, {facts['cores']} cores, {facts['memory']} GB, "
        f"torch {facts['torch']}, {facts['date']}; load average at the end {load}."
        + (_DISTURBED if facts["load"][0] > 1.5 * facts["cores"] else "")
    )


def _verdict(value: float, target: float, at_most: bool = True) -> str:
    met = value <= target if at_most else value >= target
    if met:
        return "met"
    factor = value / target if at_most else target / value
    return f"missed by a factor of {factor:.2f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.1f} min"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def products(result: dict[str, Any]) -> str:
    """One network's products."""
    times, memory = result["times"], result.get("memory", {})
    base = times["gradient"]
    rows = [
        (
            way,
            _seconds(t["median"]),
            f"{_seconds(t['low'])} to {_seconds(t['high'])}",
            f"{t['median'] / base['median']:.2f}",
            f"{t['cpu'] / base['cpu']:.2f}",
            _bytes(memory[way]) if way in memory else "",
        )
        for way, t in times.items()
    ]
    head = ("per vector", "median", "quartiles", "gradients, by the clock", "by processor time",
            "peak memory added")  # fmt: skip
    lines = [f"{result['what']}. {result['repeats']} rounds, all ways in turn in each.", ""]
    lines += [_table(head, rows), ""]
    lines.append(f"Hessscope's plan: {result['plan']}.")
    for way in times:
        if way.startswith("hessscope") and (clauses := _verdicts(way, result)):
            lines.append(f"- {way[0].upper()}{way[1:]}: {'; '.join(clauses)}.")
    if not result["full"]:
        lines.append(_OTHER_SIZE.strip())
    return "\n".join([*lines, "", _machine(result["machine"])])


def _verdicts(way: str, result: dict[str, Any]) -> list[str]:
    """One of hessscope's ways beside its targets: the gradient, and peers given as many vectors."""
    times, widths, clauses = result["times"], result["widths"], []
    mine, width = times[way], widths[way]
    network = next(name for name in PEER_TARGETS if result["what"].startswith(name))
    most = {"MLP": PRODUCT_TARGET if width >= WIDE else None, "GPT": GPT_TARGET}.get(network)
    if most is not None:
        ratio = mine["median"] / times["gradient"]["median"]
        verdict = _verdict(ratio, most)
        clauses.append(f"{ratio:.2f} gradients, target at most {most:.2f}: {verdict}")
    # Peers that take one vector at a time take as long for each of a block.
    able = [
        name
        for name in times
        if name != "gradient" and not name.startswith("hessscope") and widths[name] in (1, width)
    ]
    plain, fused = ([n for n in able if ("compiled" in n) is kind] for kind in (False, True))
    for among, target in ((plain, PEER_TARGETS[network]), (fused, COMPILED_TARGET)):
        if not among:
            continue
        peer = min(among, key=lambda name: times[name]["median"])
        ratio = mine["median"] / times[peer]["median"]
        clauses.append(
            f"{ratio:.2f} of the time of the best peer for so many vectors ({peer}), "
            f"{mine['cpu'] / times[peer]['cpu']:.2f} by processor time, target at most "
            f"{target:.2f}: {_verdict(ratio, target)}"
        )
    return clauses


def assembly(result: dict[str, Any]) -> str:
    """Exact assembly."""
    floor, batched = result["assembly"] / result["floor"], result["products"] / result["assembly"]
    rates = " and ".join(f"{rate / 1e9:.0f}" for rate in result["rates"])
    rows = [
        ("assembly by structure", _seconds(result["assembly"]), f"{floor:.2f} times the floor"),
        ("floor of its matrix products", _seconds(result["floor"]),
         f"at {rates} GFLOP/s, measured before and after"),
        (f"{result['n']:,} batched products", _seconds(result["products"]),
         f"{batched:.1f} times the assembly; from {result['columns']:,} columns"),
        ("eigenvalues and noise floor", _seconds(result["eigenvalues"]), ""),
        (
            "all together",
            _seconds(result["total"]),
            f"peak memory {_bytes(result['assembly_peak'])} with the matrix assembled; "
            f"{_bytes(result['peak'])} in the end, the check by products included",
        ),
    ]  # fmt: skip
    cpu = result["products_cpu"] / result["assembly_cpu"]
    return "\n".join(
        [
            f"{result['what']}.",
            "",
            _table(("work", "time", ""), rows),
            "",
            f"Targets: at most {FLOOR_TARGET} times the floor: {_verdict(floor, FLOOR_TARGET)}; at "
            f"least {BATCHED_TARGET:.0f} times faster than batched products: "
            f"{_verdict(batched, BATCHED_TARGET, at_most=False)} (by processor time {cpu:.1f} "
            f"times). The columns computed both ways differ by at most {result['difference']:.1e}, "
            f"the largest entry being {result['largest']:.2g}."
            + ("" if result["full"] else _OTHER_SIZE),
            "",
            _machine(result["machine"]),
        ]
    )


def growth(result: dict[str, Any]) -> str:
    """Exponents beside the laws."""
    rows = []
    for name, sweep in result["sweeps"].items():
        sizes, (time_law, memory_law) = sweep["sizes"], sweep["laws"]
        rows.append(
            (
                name,
                sweep["work"],
                f"{sizes[0]:,} to {sizes[-1]:,}",
                f"{_seconds(sweep['seconds'][0])} to {_seconds(sweep['seconds'][-1])}",
                f"{time_law} / {sweep['fits'][0]:.2f}",
                f"{_bytes(sweep['bytes'][0])} to {_bytes(sweep['bytes'][-1])}",
                f"{memory_law} / {sweep['fits'][1]:.2f}",
            )
        )
    head = ("against", "work", "sizes", "time", "exponent: law / measured", "memory",
            "exponent: law / measured")  # fmt: skip
    return "\n".join([_table(head, rows), "", _FIGURE, "", _machine(result["machine"])])


def gpu(result: dict[str, Any]) -> str:
    """The CUDA workloads, or that there was no device."""
    if result["runs"] is None:
        return "No CUDA device was at hand, so there are no numbers here yet."
    rows = [
        (run["what"], name, _seconds(value), _bytes(run["peak"]))
        for run in result["runs"]
        for name, value in run.items()
        if name not in ("what", "peak")
    ]
    table = _table(("workload", "work", "time", "peak memory"), rows)
    return "\n".join([table, "", _machine(result["machine"])])


RENDER = {
    "mlp": products,
    "resnet": products,
    "gpt": products,
    "vit": products,
    "assembly": assembly,
    "growth": growth,
    "gpu": gpu,
}
