"""The loop of a survey: hand out searches, store each as it comes, lose nothing."""

from __future__ import annotations

import concurrent.futures
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from hessscope.errors import NoWorkerError, OptionError, WorkerError
from hessscope.limits import available_cores
from hessscope.objective import Objective
from hessscope.operators import Plan, memory_limit
from hessscope.options.refine import SearchOptions
from hessscope.options.survey import StudyOptions
from hessscope.progress import ignore, silent
from hessscope.records import Record, check_attributes
from hessscope.refinement import Strategy
from hessscope.registry import PRODUCTS
from hessscope.surveys.jobs import FAILED, Job, LocalProcesses, failure, search
from hessscope.surveys.starts import Source, Start, make_starts
from hessscope.surveys.study import Study, SurveyResult

# A search whose process dies is begun again; one that kills three is given up and kept as failed.
ATTEMPTS = 3

# Workers report to nobody.
_UNHEARD: dict[str, Any] = {"progress": silent, "on_note": ignore}

#: Called with the name and the attributes of each search that has ended.
Watch = Callable[[str, Mapping[str, Any]], object]


def run_survey(
    make: Callable[[], Objective],
    folder: str | Path,
    options: StudyOptions | None = None,
    *,
    trajectories: Sequence[Sequence[Source]] = (),
    starts: Sequence[Source] = (),
    executor: Executor | None = None,
    attributes: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> SurveyResult:
    """Search for critical points from many starts, in parallel, and store each in a folder.

    The same call resumes an earlier one that stopped. More searches may be asked for than before;
    anything else that would change a result is refused. The same seed gives the same searches,
    in whatever order they run.

    Args:
        make: gives the objective; called once in each process, so it has to be a function of a
            module, or a ``functools.partial`` of one, that can be pickled.
        folder: of the study; made if need be.
        options: how starts are chosen and searched from.
        trajectories: checkpoints by runs, for the starts along trajectories.
        starts: the user's own starts.
        executor: where to compute; default processes on this machine.
        attributes: what every record states beside the result, and what has to stay the same.
        watch: called with each search that has ended.

    Returns:
        All searches that have ended, those of earlier calls included; after Ctrl-C those that had.

    Raises:
        OptionError: nothing to start from, or the folder has a study with another configuration.
        WorkerError: no process can be started, or the cluster is lost; what ended is stored.
    """
    began = time.perf_counter()
    options = options or StudyOptions()
    progress, objective = options.progress, make()
    planned = make_starts(options, trajectories, starts)
    study = Study(Path(folder))
    stored = None if options.overwrite else study.configuration
    workers = options.workers or default_workers(objective)
    # Chosen once, by a measurement: a search is the same bit for bit in whichever process it runs.
    plan = _plan(objective, options, stored, workers if executor is None else 1)
    strategy = Strategy.of(SearchOptions.part_of(options, **_UNHEARD), len(objective.parameters))
    facts = {**objective_facts(objective), **(attributes or {})}
    if options.overwrite:
        study.clear()
    study.open(
        {
            "amplitudes": options.amplitudes,
            "range": options.range,
            "seed": options.seed,
            "search": {n: value for n, value in strategy.stored().items() if n != "seed"},
            "trajectories": [[s.fingerprint for s in run] for run in trajectories],
            "starts": [s.fingerprint for s in starts],
            "objective": facts,
            "plan": plan and plan.as_dict(),
        }
    )
    outcomes = study.outcomes()
    if options.retry_failed:
        outcomes = {name: a for name, a in outcomes.items() if a.get("status") != FAILED}
    todo = [start for start in planned if start.name not in outcomes]
    threads = options.threads
    if threads is None:
        threads = max(1, available_cores() // workers) if executor is None else 1
    facts = {**facts, "study": str(folder)}
    check_attributes({**facts, "configuration": strategy.stored()})
    sent = _pickled(make)

    def job_of(start: Start) -> Job:
        theta, about = start.draw(len(objective.parameters))
        how = replace(strategy.options, seed=about["seed"])
        named = {**facts, "origin": start.origin, "name": start.name, **about}
        return Job(sent, theta, how, plan, threads, named)

    def keep(start: Start, record: Record) -> None:
        study.put(start.name, record)
        outcomes[start.name] = record.attributes

    pool = executor or LocalProcesses(min(workers, max(1, len(todo))))
    progress("searches", 0, len(todo))
    done, interrupted = 0, False
    last: tuple[Start, Record] | None = None
    results = _results(pool, job_of, todo, 2 * workers)
    with study.locked():
        try:
            for last in results:
                keep(*last)
                done += 1
                progress("searches", done, len(todo))
                if watch is not None:
                    watch(last[0].name, last[1].attributes)
        except KeyboardInterrupt:
            interrupted = True
            if last is not None and last[0].name not in outcomes:
                keep(*last)
        finally:
            results.close()
            if executor is None:
                pool.shutdown(wait=True, cancel_futures=True)
    names = {start.name for start in planned}
    return SurveyResult(
        folder=study.folder,
        outcomes={name: outcomes[name] for name in sorted(outcomes) if name in names},
        planned=len(planned),
        computed=done,
        interrupted=interrupted,
        seconds=time.perf_counter() - began,
    )


def _pickled(make: Callable[[], Objective]) -> bytes:
    try:
        return pickle.dumps(make)
    except Exception as error:
        raise OptionError(
            f"the function that makes the objective cannot be sent to other processes ({error}): "
            "define it at the top of a module"
        ) from error


def _results(
    pool: Executor, job_of: Callable[[Start], Job], todo: Iterable[Start], window: int
) -> Generator[tuple[Start, Record], None, None]:
    """Searches as they end; few are handed out ahead, since each carries its start."""
    waiting = deque((start, 1) for start in todo)
    running: dict[Future[Record], tuple[Start, int, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < window:
                start, attempt = waiting.popleft()
                job = job_of(start)
                running[pool.submit(search, job)] = (start, attempt, job)
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                start, attempt, job = running.pop(future)
                try:
                    record = future.result()
                except CancelledError as error:
                    raise WorkerError(
                        "the cluster gave up the searches (was it shut down?); what has ended is "
                        "stored, and the same command resumes"
                    ) from error
                except NoWorkerError:
                    raise
                except Exception as error:
                    if attempt < ATTEMPTS:
                        waiting.appendleft((start, attempt + 1))
                        continue
                    record = failure(job, error)
                if record.attributes["status"] != "interrupted":
                    yield start, record
    except KeyboardInterrupt:
        for future, (start, _, _) in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield start, future.result()
        raise
    finally:
        for future in running:
            future.cancel()


def default_workers(objective: Objective) -> int:
    """One for each core; one in all on a GPU, which searches at once would only share."""
    return 1 if objective.parameters.device.type == "cuda" else available_cores()


def _plan(
    objective: Objective, options: StudyOptions, stored: Mapping[str, Any] | None, workers: int
) -> Plan | None:
    """The plan of the study in the folder, or a new one that fits as often as there are workers."""
    known = (stored or {}).get("plan")
    if known is not None:
        return Plan(**{"batch_size": None, **known})
    at, memory = objective.parameters, options.memory_in_bytes
    if memory is None:
        memory = memory_limit(None, at.device, workers)
    plan: Plan = PRODUCTS.find(options.products)(objective, at, memory=memory).plan
    return plan


def objective_facts(objective: Objective) -> dict[str, Any]:
    """Data, loss and data type, as records state them."""
    network = objective.network
    return {"parameters": len(objective.parameters), **({} if network is None else network.facts())}
