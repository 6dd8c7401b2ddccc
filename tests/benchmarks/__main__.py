"""Run the benchmarks and renew the tables: ``make bench``, or ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import assembly, gpu, growth, measuring, page, products

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PARTS = tuple(page.RENDER)


def measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """One part's results."""
    root = options.data_dir
    if part in products.COUNTS:
        arguments = (part, options.images or products.COUNTS[part], root)
        result = measuring.isolated(
            products.products, *arguments, options.repeats, not options.no_compile
        )
        if not options.no_memory:
            result["memory"] = {
                way: measuring.isolated(products.product_memory, *arguments, way)
                for way in result["times"]
            }
        return result
    if part == "assembly":
        count = options.images or 60_000
        return measuring.isolated(assembly.assembly, count, root, options.columns, options.hidden)
    return growth.growth() if part == "growth" else gpu.gpu(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for, save their results and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=f"some of: {' '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--data-dir", default=os.environ.get("HESSSCOPE_DATA"),
                        help="folder with mnist/; default $HESSSCOPE_DATA, else the tests' images",
                        )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=7, help="rounds of the products")
    parser.add_argument("--columns", type=int, default=512, help="timed by products, assembly")
    parser.add_argument("--images", type=int, help="another number of images than the default")
    parser.add_argument("--hidden", type=int, default=25, help="hidden units, assembly")
    parser.add_argument("--no-memory", action="store_true", help="leave out products' memory")
    parser.add_argument("--no-compile", action="store_true", help="leave out compiled products")
    parser.add_argument("--render", action="store_true", help="only write the page anew")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "performance.md")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "build" / "bench.json")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    if options.results.exists():
        results = json.loads(options.results.read_text("utf-8"))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    for part in () if options.render else options.only:
        print(f"measuring: {part}", file=sys.stderr, flush=True)
        results[part] = measure(part, options)
        options.results.write_text(json.dumps(results, indent=1), "utf-8")
    text = options.page.read_text("utf-8")
    for part in options.only:
        if part in results:
            shown = page.RENDER[part](results[part])
            print(f"\n{shown}\n")
            text = page.put(text, part, shown)
    if "growth" in options.only and "growth" in results:
        growth.draw(results["growth"], options.page.parent / "images" / "growth.png")
    options.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
