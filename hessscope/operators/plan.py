"""Plans of products: how they are computed, and in how much memory."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from hessscope.errors import MemoryLimitError
from hessscope.limits import free_memory, resident_memory
from hessscope.objective import Term
from hessscope.objective.checks import not_differentiable
from hessscope.objective.kernels import note_saved
from hessscope.operators.assembly import Assembly
from hessscope.operators.symmetric import BlockProduct

if TYPE_CHECKING:
    from hessscope.operators.derivatives import ObjectiveOperator

SAFE_PART = 0.8


def memory_room(limit: int | None, device: torch.device) -> int:
    """Bytes that may be taken beyond what is taken already.

    Args:
        limit: most that this process may hold on the device, all in all (``memory``); None for
            four fifths of what is free now.
        device: the main memory for "cpu", else the device's own.
    """
    free, taken = _free_and_taken(device)
    return int(SAFE_PART * free) if limit is None else max(0, limit - taken)


def memory_limit(limit: int | None, device: torch.device, processes: int = 1) -> int:
    """Most bytes that this process may hold, all in all.

    Args:
        limit: given by the user, which is then the answer; None for four fifths of what is free.
        device: as for ``memory_room``.
        processes: each as large as this one, that are to fit at once.
    """
    free, taken = _free_and_taken(device)
    return taken + int(SAFE_PART * free) // processes if limit is None else limit


def room_in_words(limit: int | None, device: torch.device) -> str:
    """What ``memory_room`` gives, and why it is no more."""
    room = memory_in_words(memory_room(limit, device))
    if limit is None:
        return f"{room} of what is free may be used"
    taken = memory_in_words(_free_and_taken(device)[1])
    return f"{room} are left of `memory={memory_in_words(limit)}` ({taken} are taken already)"


def require_memory(
    needed: float, limit: int | None, device: torch.device, words: str, remedy: str
) -> None:
    """Refuse work that would not fit.

    Args:
        needed: bytes.
        limit: as for ``memory_room``.
        device: likewise.
        words: what needs them, such as "ten eigenvectors need".
        remedy: what to do.

    Raises:
        MemoryLimitError: says what it would need, what there is, and what to do.
    """
    if needed > memory_room(limit, device):
        raise MemoryLimitError(
            f"{words} {memory_in_words(needed)}, and {room_in_words(limit, device)}: {remedy}"
        )


def _free_and_taken(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        taken = int(torch.cuda.memory_allocated(device))
        # Freed blocks that torch keeps for later look taken to the driver, and are free.
        kept = int(torch.cuda.memory_reserved(device)) - taken
        return int(torch.cuda.mem_get_info(device)[0]) + kept, taken
    taken = resident_memory()
    return free_memory(), taken


def memory_in_words(amount: float) -> str:
    """Bytes as a user gives them: "3.2 GB", "410 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 1e3:.3g} kB"


VECTOR_COUNTS = (1, 4, 16, 64)
# A wider pass must take at most this part of the time per vector.
_WORTHWHILE = 0.9


@dataclass(frozen=True)
class Plan:
    """One way of computing Hessian-vector products.

    Two runs with the same plan on the same machine give the same bits.

    Attributes:
        way: "layers" (kept derivatives of fully connected layers), "graph" (a pass backward
            through the graph of the gradient), or "compiled" (the same operations, compiled).
        vectors: vectors for each pass.
        batch_size: examples for each pass; None for the objective's own.
        held: what the way prepares for each batch is kept between products.
    """

    way: str
    vectors: int
    batch_size: int | None
    held: bool

    def as_dict(self) -> dict[str, Any]:
        """The form it has in records."""
        return asdict(self)

    def __str__(self) -> str:
        """In words."""
        examples = "all examples" if self.batch_size is None else f"{self.batch_size:,} examples"
        kept = "kept between products" if self.held else "recomputed for each product"
        way = "by graph, compiled" if self.way == "compiled" else f"by {self.way}"
        return f"{way}, {kept}; {self.vectors} vectors and {examples} at a time"


def make_plan(operator: ObjectiveOperator, assembly: Assembly) -> Plan:
    """Choose a plan: by structure where that covers all parameters, else by a short timing.

    Args:
        operator: whose products are planned.
        assembly: what is known of the network's structure.

    Raises:
        ObjectiveError: the objective cannot be differentiated twice.
        MemoryLimitError: not even a single example at a time fits in the memory given.
    """
    objective, theta = operator.objective, operator.at
    room = memory_room(operator.memory, theta.device)
    if assembly.chain:
        width = assembly.product_vectors
        plan = Plan("layers", width, assembly.product_chunk(theta, width), held=True)
        if bytes_needed(plan, operator) <= room // 2:
            return plan
    vector = theta.numel() * theta.element_size()
    network = objective.network
    size = None if network is None else network.batch_size
    graph = graph_bytes(operator, size)
    # A product's own passes need about as much again as the graph holds, and some vectors.
    if size is not None and 2 * graph + 8 * vector > room:
        size = max(1, int(size * max(room - 8 * vector, 0) / (2 * graph)))
        graph = graph_bytes(operator, size)
    require_memory(
        2 * graph + 8 * vector,
        operator.memory,
        theta.device,
        "a product with its smallest batch needs",
        "give more `memory`, or take `dtype=float32`",
    )
    terms = objective.terms(size)
    held = graph * len(terms) <= room // 3
    left = room - (graph * len(terms) if held else graph)
    # A pass of k vectors carries k tangents of every held activation, and k inputs and outputs.
    most = max(1, int(left // (2 * graph + 4 * vector + 1)))
    operator.pace, vectors = _fastest(operator, terms[0], most)
    return Plan("graph", vectors, size, held)


def other_batch_size(size: int) -> int:
    """Examples a batch for a second way of adding up: other boundaries, other partial sums.

    Two thirds, but two for single examples, since batches cannot be smaller. A pass over two takes
    twice the memory of the one that was planned; it is made for single vectors only.
    """
    return 2 if size == 1 else 2 * size // 3


def bytes_needed(plan: Plan, operator: ObjectiveOperator) -> int:
    """Bytes that products by a plan take, data and parameters not counted."""
    theta = operator.at
    if plan.way == "layers":
        assembly = operator.assembly
        size = plan.batch_size or assembly.examples
        at_work = size * assembly.product_bytes(theta, plan.vectors)
        return assembly.product_bytes(theta) * assembly.examples + at_work
    count = len(operator.objective.terms(plan.batch_size)) if plan.held else 1
    graph, vector = graph_bytes(operator, plan.batch_size), theta.numel() * theta.element_size()
    return graph * count + plan.vectors * (2 * graph + 4 * vector)


def graph_bytes(operator: ObjectiveOperator, batch_size: int | None) -> int:
    """Bytes that the graphs for a term's products keep, data and parameters not counted."""
    term = operator.objective.terms(batch_size)[0]
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> None:
        own = tensor.numel() * tensor.element_size()
        # Slices of the data and of θ are views into larger storage that is there anyway.
        if tensor.untyped_storage().nbytes() <= own:
            seen[tensor.data_ptr()] = own

    note_saved(lambda: operator.prepare(term, operator.at), note)
    return sum(seen.values())


def _fastest(operator: ObjectiveOperator, term: Term, most: int) -> tuple[float, int]:
    """Time block sizes on one term and give the seconds per vector of the fastest, and its size."""
    theta = operator.at
    best: tuple[float, int] | None = None
    stream = torch.Generator().manual_seed(0)
    try:
        product = operator.prepare(term, theta)
        for vectors in VECTOR_COUNTS:
            if vectors > most:
                break
            block = torch.randn(vectors, theta.numel(), generator=stream, dtype=theta.dtype)
            seconds = seconds_of(product, block.to(theta.device)) / vectors
            # Wider passes take longer to try, so they end where they stop to pay.
            if best is not None and seconds > _WORTHWHILE * best[0]:
                break
            best = (seconds, vectors)
    except Exception as error:  # which exception an unsupported operation gives is torch's own
        if best is None:
            raise not_differentiable(error, " twice") from error
    return best or (0.0, 1)


def seconds_of(product: BlockProduct, block: torch.Tensor) -> float:
    """Best of a few passes, the first of which warms up."""
    product(block)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = product(block)
        if result.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if sum(times) > 0.5:
            break
    return min(times)
