"""The loop of a survey: hand out searches, store each as it comes, lose nothing."""

from __future__ import annotations

import concurrent.futures
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hessscope.errors import NoWorkerError, OptionError, WorkerError
from hessscope.limits import available_cores
from hessscope.objective import EmpiricalRisk, Objective
from hessscope.operators import HessianOperator, Plan, share_of_memory
from hessscope.progress import Progress, silent
from hessscope.records import Record, check_attributes
from hessscope.surveys.jobs import FAILED, Job, failure, search
from hessscope.surveys.local import LocalProcesses
from hessscope.surveys.options import SurveyOptions
from hessscope.surveys.result import SurveyResult
from hessscope.surveys.starts import Source, Start, make_starts
from hessscope.surveys.study import Study

# A search whose process dies is begun again; one that kills three is given up and kept as failed.
ATTEMPTS = 3

#: Called with the name and the attributes of each search that has ended.
Watch = Callable[[str, Mapping[str, Any]], object]


def run_survey(
    make: Callable[[], Objective],
    folder: str | Path,
    options: SurveyOptions | None = None,
    *,
    trajectories: Sequence[Sequence[Source]] = (),
    starts: Sequence[Source] = (),
    executor: Executor | None = None,
    workers: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    attributes: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> SurveyResult:
    """Search for critical points from many starts, in parallel, and store each in a folder.

    The same call goes on where an earlier one stopped. More searches may be asked for than before;
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
        workers: searches at once; default one for each core, and one on a GPU.
        threads: of each search; default the cores over the workers, and 1 with an ``executor``,
            whose machines are its own.
        overwrite: remove the study that is in the folder.
        retry_failed: also do those again that failed with an error.
        attributes: what every record says beside the result, and what has to stay the same.
        progress: told of every search that ends.
        watch: called with each search that has ended.

    Returns:
        All searches that have ended, those of earlier calls included; after Ctrl-C those that had.

    Raises:
        OptionError: nothing to start from, or the folder has a study with another configuration.
        WorkerError: no process can be started, or the cluster is lost; what ended is stored.
    """
    began = time.perf_counter()
    options = options or SurveyOptions()
    objective = make()
    planned = make_starts(options, trajectories, starts)
    configuration: dict[str, Any] = {
        "options": options.as_dict(),
        "trajectories": [[s.fingerprint for s in run] for run in trajectories],
        "starts": [s.fingerprint for s in starts],
        "objective": {**objective_facts(objective), **(attributes or {})},
    }
    study = Study(Path(folder))
    stored = None if overwrite else study.configuration
    workers = workers or default_workers(objective)
    # Chosen once, by a measurement: a search is the same bit for bit in whichever process it runs.
    plan = _plan(objective, options, stored, workers if executor is None else 1)
    if overwrite:
        study.clear()
    study.open({**configuration, "plan": plan and plan.as_dict()})
    outcomes = study.outcomes()
    if retry_failed:
        outcomes = {name: a for name, a in outcomes.items() if a.get("status") != FAILED}
    todo = [start for start in planned if start.name not in outcomes]
    if threads is None:
        threads = max(1, available_cores() // workers) if executor is None else 1
    facts = {**configuration["objective"], "study": str(folder)}
    check_attributes({**facts, "options": options.as_dict()})
    jobs = _Jobs(make, objective, options, plan, threads, facts)
    own = executor is None
    pool = LocalProcesses(min(workers, max(1, len(todo)))) if executor is None else executor
    progress("searches", 0, len(todo))
    done, interrupted = 0, False
    last: tuple[Start, Record] | None = None
    results = _results(pool, jobs, todo, 2 * workers)
    with study.locked():
        try:
            for last in results:
                start, record = last
                study.put(start.name, record)
                outcomes[start.name] = record.attributes
                done += 1
                progress("searches", done, len(todo))
                if watch is not None:
                    watch(start.name, record.attributes)
        except KeyboardInterrupt:
            interrupted = True
            if last is not None and last[0].name not in outcomes:
                study.put(last[0].name, last[1])
                outcomes[last[0].name] = last[1].attributes
        finally:
            results.close()
            if own:
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


@dataclass(frozen=True)
class _Jobs:
    """Makes the job of a start, when its turn has come."""

    make: Callable[[], Objective]
    objective: Objective
    options: SurveyOptions
    plan: Plan | None
    threads: int
    facts: Mapping[str, Any]

    def of(self, start: Start) -> Job:
        size = len(self.objective.parameters)
        theta, about = start.draw(size)
        return Job(
            make=self.pickled,
            start=theta,
            options=replace(self.options.refinement, seed=about["seed"]),
            plan=self.plan,
            threads=self.threads,
            attributes={**self.facts, "origin": start.origin, "job": start.name, **about},
        )

    @property
    def pickled(self) -> bytes:
        try:
            return pickle.dumps(self.make)
        except Exception as error:
            raise OptionError(
                f"the function that makes the objective cannot be sent to other processes "
                f"({error}): define it at the top of a module"
            ) from error


def _results(
    pool: Executor, jobs: _Jobs, todo: Iterable[Start], window: int
) -> Generator[tuple[Start, Record], None, None]:
    """Searches as they end; few are handed out ahead, since each carries its start."""
    waiting = deque((start, 1) for start in todo)
    running: dict[Future[Record], tuple[Start, int, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < window:
                start, attempt = waiting.popleft()
                job = jobs.of(start)
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
                        "stored, and the same command goes on"
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
    objective: Objective, options: SurveyOptions, stored: Mapping[str, Any] | None, workers: int
) -> Plan | None:
    """The plan of the study in the folder, or a new one that fits as often as there are workers."""
    known = (stored or {}).get("plan")
    if known is not None:
        return Plan(**{"batch_size": None, **known})
    at, memory = objective.parameters, options.refinement.memory_in_bytes
    if memory is None:
        memory = share_of_memory(workers, at.device)
    return HessianOperator(objective, at, memory=memory).plan


def objective_facts(objective: Objective) -> dict[str, Any]:
    """Data, loss and data type, as records say them."""
    facts: dict[str, Any] = {"parameters": len(objective.parameters)}
    if isinstance(objective, EmpiricalRisk):
        facts |= {
            "data": objective.data.name,
            "split": objective.data.split,
            "preprocessing": list(objective.data.preprocessing),
            "data_fingerprint": objective.data.fingerprint,
            "examples": len(objective),
            "loss_function": objective.loss.name,
            "l2": objective.l2,
            "dtype": str(objective.dtype).removeprefix("torch."),
            "device": str(objective.device),
        }
    return facts
