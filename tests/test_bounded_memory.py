"""Long Lanczos runs in little memory: bases in float32, in memory or in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hessscope as hs
from hessscope.backends import lanczos as lanczos_backend
from hessscope.backends.sampling import draw
from hessscope.errors import HessscopeWarning, MemoryLimitError, PrecisionWarning
from hessscope.linalg.lanczos import StoredLanczos, gaussian
from hessscope.linalg.stored_rows import StoredRows
from hessscope.operators import MatrixOperator
from hessscope.records import Store
from hessscope.spectra import SpectralDensity

CPU = torch.device("cpu")
# A bulk, and outliers on both sides of it.
VALUES = np.concatenate([np.linspace(-1, 1, 360), np.linspace(3, 40, 14), np.linspace(-9, -2, 6)])


def rotated(values: np.ndarray = VALUES, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return (basis * values) @ basis.T


class Diagonal:
    """An operator of so many parameters that no matrix of it would fit."""

    device = CPU

    def __init__(self, values: torch.Tensor, stop_at: int | None = None) -> None:
        self.values, self.dtype, self.shape = values, values.dtype, (len(values),) * 2
        self.hvps, self.stop_at = 0, stop_at

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        self.hvps += vectors.shape[1]
        if self.stop_at == self.hvps:
            raise KeyboardInterrupt
        return self.values[:, None] * vectors

    def recomputed(self) -> None:
        return None


def diagonal(stop_at: int | None = None, n: int = 50_000) -> Diagonal:
    values = torch.linspace(-1, 1, n, dtype=torch.float64)
    values[:3] = torch.tensor([30.0, -20.0, 11.0], dtype=torch.float64)
    return Diagonal(values, stop_at)


def same(one: SpectralDensity, other: SpectralDensity) -> None:
    assert one.hvps == other.hvps
    for name, array in one.to_record().arrays.items():
        np.testing.assert_array_equal(other.to_record().arrays[name], array, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(4))
def test_stored_bases_give_the_eigenvalues_within_their_floor(
    dtype: torch.dtype, seed: int
) -> None:
    matrix = torch.from_numpy(rotated(seed=seed)).to(dtype)
    truth = np.linalg.eigvalsh(matrix.double().numpy())
    density = hs.LanczosBackend(steps=80, probes=2, seed=seed, basis="float32").solve(matrix)
    assert density.rigorous
    # Between what storing vectors in float32 leaves, and what would say nothing.
    assert 1e-8 < density.options["orthogonality"] < 2e-5
    assert density.noise_floor.total < 2e-5 * 40
    for end, found, within in (
        (truth[-1], density.lambda_max, density.lambda_max_residual),
        (truth[0], density.lambda_min, density.lambda_min_residual),
    ):
        assert abs(found - end) <= within
    locked = density.locked.values
    distance = np.abs(truth[:, None] - locked[None]).min(0)
    assert len(locked) >= 10
    assert np.all(distance <= density.locked.residuals + density.noise_floor.total)
    for tolerance in (2 * density.noise_floor.total, 0.5, 1.5, 5.0):
        down, up = density.rigorous_bounds(tolerance)
        assert down <= np.sum(truth < -tolerance)
        assert up <= np.sum(truth > tolerance)


def test_intervals_stay_true() -> None:
    """Of 120 intervals of the index, each with 90 % confidence, at least as many hold."""
    hits, draws = 0, 40
    matrix = rotated()
    for seed in range(draws):
        backend = hs.LanczosBackend(steps=25, probes=2, seed=seed, confidence=0.9, basis="float32")
        density = backend.solve(matrix)
        for tolerance in (0.2, 0.6, 2.5):
            count = density.inertia(tolerance).negative
            hits += count.lower <= np.sum(np.linalg.eigvalsh(matrix) < -tolerance) <= count.upper
    # Three standard errors of dependent intervals, as if of 40 draws.
    assert hits / (3 * draws) >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / draws)


def test_loss_of_orthogonality_is_that_of_the_vectors_in_use(tmp_path: Path) -> None:
    """Against the Gram matrix of the rows themselves, by NumPy; in both places the same bits."""
    values, found = torch.from_numpy(VALUES), []
    locked = torch.zeros(2, len(VALUES))
    locked[0, -1] = locked[1, -2] = 1.0
    for place in (None, tmp_path / "rows"):
        rows = StoredRows(2 + 40 + 1, len(VALUES), place and place.open("w+b", buffering=0))
        starts = gaussian(len(VALUES), 1, 0, dtype=torch.float64, device=CPU)
        iteration = StoredLanczos(starts, rows, against=locked)
        iteration.advance(lambda v: values[:, None] * v, 40)
        vectors = np.stack([rows.read(number).numpy() for number in range(43)]).astype(np.float64)
        expected = np.linalg.norm(vectors @ vectors.T - np.eye(43))
        (run,) = iteration.runs()
        assert run.orthogonality == pytest.approx(expected, rel=1e-6)
        # AQ = QT + βqeᵀ to within what the documentation says, off the locked vectors.
        basis = vectors[2:42]
        t = np.diag(run.alphas) + np.diag(run.betas[:-1], 1) + np.diag(run.betas[:-1], -1)
        projected = basis @ (VALUES[:, None] * basis.T)
        scale = np.abs(VALUES).max()
        slack = 3 * expected * scale + 1.2e-7 * np.linalg.norm(t)
        # The best approximation by an orthonormal basis.
        left, _, right = np.linalg.svd(basis, full_matrices=False)
        near = left @ right
        assert np.linalg.norm(near @ (VALUES[:, None] * near.T) - t, 2) <= slack
        assert np.linalg.norm(projected - t, 2) <= slack
        found.append((run, vectors))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][0].alphas, found[1][0].alphas)


def level(monkeypatch: pytest.MonkeyPatch, memory: float, disk: float) -> hs.LanczosBackend:
    """A backend where so many bytes of memory and disk are free."""
    monkeypatch.setattr(lanczos_backend, "memory_room", lambda *_: int(memory))
    monkeypatch.setattr(
        lanczos_backend.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(disk))
    )
    return hs.LanczosBackend(steps=20, probes=2)


def test_the_plan_goes_from_memory_to_float32_to_disk_to_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = diagonal()
    vector = 8 * 50_000
    found = []
    for memory, disk in ((100, 0), (30, 0), (15, 100), (15, 1)):
        backend = level(monkeypatch, memory * vector, disk * vector)
        with pytest.warns(PrecisionWarning) if (memory, disk) == (15, 1) else nothing():
            planned = backend.planned(operator, {})
        found.append((planned.basis, planned.together))
    assert found == [("own", 2), ("float32", 1), ("disk", 1), ("own", 0)]
    full = replace(level(monkeypatch, 15 * vector, vector), reorthogonalize="full")
    with pytest.raises(MemoryLimitError, match=r"nor on the disk of .*: `steps=\d+` would fit"):
        full.planned(operator, {})


class nothing:  # noqa: N801 - as contextlib.nullcontext
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_the_cost_is_said_in_products_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = 8 * 50_000
    backend = level(monkeypatch, 15 * vector, 100 * vector)
    words = replace(backend, scratch="/var/tmp").cost(diagonal())
    # 7 vectors of float64 beside those of the products, of which 0.7 are taken: 4 converged ones
    # and their copies in float32. 21 + 4 vectors of 200 kB are on the disk.
    assert "60 products" in words
    assert "800 kB of memory and 5 MB of the disk of /var/tmp" in words
    assert "`subset`" in words


@pytest.mark.parametrize("limit", [7, 31, 58])
def test_a_run_on_disk_resumes_bit_for_bit(tmp_path: Path, limit: int) -> None:
    backend = hs.LanczosBackend(steps=20, probes=2, basis="disk", scratch=str(tmp_path))
    whole = backend.solve(diagonal())
    assert whole.hvps == 60
    with pytest.raises(KeyboardInterrupt):
        backend.solve(diagonal(limit), saved=Store(tmp_path / "x.partial", 0.0))
    assert len(list((tmp_path / "x.partial").glob("*.rows"))) == 1
    again = diagonal()
    same(backend.solve(again, saved=Store(tmp_path / "x.partial", 0.0)), whole)
    assert again.hvps == 60 - (limit - 1)
    # The file of a finished run is of no use.
    assert not list((tmp_path / "x.partial").glob("*.rows"))
    assert not [p for p in tmp_path.iterdir() if p.name != "x.partial"]


def test_a_killed_run_on_disk_resumes_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL, which nothing can catch, in the middle of a step."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal, sys\nfrom pathlib import Path\n"
        "import hessscope as hs\nfrom hessscope.records import Store\n"
        "from test_bounded_memory import diagonal\n"
        "operator, product = diagonal(), type(diagonal()).apply\n"
        "def apply(self, vectors):\n"
        "    if operator.hvps == 33:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return product(self, vectors)\n"
        "type(operator).apply = apply\n"
        "hs.LanczosBackend(steps=20, probes=2, basis='disk').solve(\n"
        "    operator, saved=Store(Path(sys.argv[1]), 0.0))\n"
    )
    folder = tmp_path / "x.partial"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, str(script), str(folder)], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]
    backend, again = hs.LanczosBackend(steps=20, probes=2, basis="disk"), diagonal()
    resumed = backend.solve(again, saved=Store(folder, 0.0))
    assert again.hvps == 60 - 33
    same(resumed, backend.solve(diagonal()))


def test_a_damaged_basis_is_not_gone_on_with(tmp_path: Path) -> None:
    backend = hs.LanczosBackend(steps=20, probes=1, basis="disk", deflation=0)
    with pytest.raises(KeyboardInterrupt):
        backend.solve(diagonal(9), saved=Store(tmp_path / "x.partial", 0.0))
    (file,) = (tmp_path / "x.partial").glob("*.rows")
    with file.open("r+b") as stream:
        stream.seek(4 * 50_000 * 3 + 17)
        stream.write(b"\x00\xff")
    again = diagonal()
    with pytest.warns(HessscopeWarning, match="row 3 of the basis does not match its checksum"):
        resumed = backend.solve(again, saved=Store(tmp_path / "x.partial", 0.0))
    assert again.hvps == 20
    same(resumed, backend.solve(diagonal()))


def test_a_full_disk_is_said_before_the_first_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    operator = diagonal()
    with pytest.raises(MemoryLimitError, match=r"0\.0042 GB.*No space left on device.*`steps`"):
        hs.LanczosBackend(steps=20, probes=1, basis="disk").solve(
            operator, saved=Store(tmp_path / "x.partial", 0.0)
        )
    assert operator.hvps == 0
    assert not list(tmp_path.rglob("*.rows"))


def test_pairs_are_kept_as_far_as_there_is_room(tmp_path: Path) -> None:
    backend = hs.LanczosBackend(steps=40, probes=2, basis="disk", scratch=str(tmp_path))
    operator = MatrixOperator(rotated())
    bases = backend._bases(operator)
    sample = draw(operator, None, range(1), 40, 0, replace(bases, locked=3))
    # Of a sample of its own, so that the largest are known beforehand.
    largest = VALUES[np.argsort(-np.abs(VALUES))[:3]]
    np.testing.assert_allclose(sample.found.values, np.sort(largest), rtol=1e-6)
    vectors = sample.found.vectors.double().numpy()
    off = rotated() @ vectors.T - vectors.T * sample.found.values
    assert np.all(np.linalg.norm(off, axis=0) <= sample.found.residuals + 1e-5)


@pytest.mark.slow
def test_resident_memory_is_bounded_by_vectors_and_not_by_steps(tmp_path: Path) -> None:
    """n = 4 million, 40 steps: 656 MB of basis in a file, and 16 MB a vector."""
    script = (
        "import resource, sys, torch\n"
        "import hessscope as hs\nfrom test_bounded_memory import diagonal\n"
        "def peak():\n    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "operator = diagonal(n=4_000_000)\n"
        "operator.values = operator.values.float(); operator.dtype = torch.float32\n"
        "before = peak()\n"
        "hs.LanczosBackend(steps=40, probes=1, deflation=0, basis='disk',\n"
        "    scratch=sys.argv[1]).solve(operator)\n"
        "print(peak() - before)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, check=True,
    )  # fmt: skip
    # Six vectors, the buffer and the blocks.
    assert int(ended.stdout) * 1024 < 6 * 16e6 + 2 * 64e6 + 30e6


def test_the_pipeline_says_the_cost_first_and_resumes(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hessscope.pipeline.spectrum_runs._LARGE", 1)
    told: list[str] = []
    backend: Callable[..., object] = hs.LanczosBackend
    report = hs.spectrum(
        "model.pt", "data.npz", activation="tanh", device="cpu", out="r.h5",
        backend=backend(steps=8, probes=2, basis="disk"), on_note=told.append,
    )  # fmt: skip
    assert any("24 products" in note and "of the disk of" in note for note in told)
    assert report.result.options["basis"] == "disk"
    assert not list(work.glob("*.partial"))
    again = hs.spectrum(
        "model.pt", "data.npz", activation="tanh", device="cpu", backend="lanczos",
        steps=8, probes=2, plan="r.h5",
    )  # fmt: skip
    same(again.result, report.result)
