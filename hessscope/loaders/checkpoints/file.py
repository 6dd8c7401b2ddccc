"""Checkpoint files, each opened once: format, digest, stored setting, and the network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from hessscope.errors import AssumptionWarning, CheckpointError, UntrustedCheckpointError
from hessscope.loaders import integrity
from hessscope.loaders.checkpoints.checkpoint import (
    ASSUMED,
    GIVEN,
    IN_FILE,
    KEY,
    Checkpoint,
    StoredSetting,
)
from hessscope.loaders.checkpoints.contents import PICKLED_MODULE, Contents
from hessscope.loaders.checkpoints.finding import Found, find_weights
from hessscope.loaders.checkpoints.formats import Format, Stored, recognise
from hessscope.loaders.checkpoints.model_sources import ModelLike, ModelSource, resolve_model
from hessscope.loaders.checkpoints.perceptrons import make_activation
from hessscope.loaders.checkpoints.raw_files import RawFile, naming, reading, weights_in
from hessscope.loaders.checkpoints.state_dicts import check_finite, check_kinds
from hessscope.loaders.user_code import names_code
from hessscope.torch_internals import without_wrapper


def load_checkpoint(
    path: str | Path,
    model: ModelLike | None = None,
    activation: str | None = None,
    trust: bool = False,
    key: str | None = None,
) -> Checkpoint:
    """Open a trained network, whatever the format of its file.

    Args:
        path: of the file, or of a folder that ``save_pretrained`` wrote.
        model: the architecture where the file has none: a ``torch.nn.Module`` (a copy of it is
            filled), a factory or class without arguments, ``"file.py:factory"``,
            ``"package.module:factory"`` or ``"mlp:784-25-10:relu"``. A plain multi-layer
            perceptron is inferred from the shapes.
        activation: between the layers of an inferred perceptron; ReLU is assumed, with an
            ``AssumptionWarning``.
        trust: whether code in the file may run. A whole pickled module then takes its class from
            the installed packages or from ``model``, and a TorchScript or ``torch.export``
            archive is run by torch.
        key: which network is meant where there are several: the keys that lead to it, joined by
            dots, or a prefix of its names.

    Raises:
        CheckpointError: the file cannot be used.
        UntrustedCheckpointError: it cannot be used without running its code.
        ArchitectureError: the architecture is not known, or does not fit.
        NonFiniteError: NaN or infinity in the weights.
    """
    file = CheckpointFile.open(path, trust, key)
    checkpoint = file.resolve(model, activation)
    if checkpoint.activation_source == ASSUMED:
        warnings.warn(
            f"the activation of {file.path.name} is not in the file: relu is assumed; state it "
            "with `activation`",
            AssumptionWarning,
            stacklevel=2,
        )
    return checkpoint


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file that has been read.

    Attributes:
        path: of the file; of a folder's weights where a folder was given.
        sha256: of its content.
        trust: whether its code may run.
        key: where in it the network is.
        raw: its content.
        format: how it is read.
    """

    path: Path
    sha256: str
    trust: bool
    key: str | None
    raw: RawFile
    format: Format

    @classmethod
    def open(cls, path: str | Path, trust: bool = False, key: str | None = None) -> CheckpointFile:
        """Read a file and recognise its format.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of no known format.
        """
        path = Path(path).expanduser()
        with reading(path):
            if path.is_dir():
                path = weights_in(path) or path
            raw = RawFile.read(path)
            return cls(path, raw.sha256, trust, key, raw, recognise(raw))

    @cached_property
    def setting(self) -> StoredSetting | None:
        """Setting that a checkpoint of ``hessscope train`` states; None for other files."""
        try:
            return _setting_in(self._stored.content)
        except UntrustedCheckpointError:
            return None

    @cached_property
    def _stored(self) -> Stored:
        with reading(self.path):
            return self.format.read(self.raw)

    def resolve(self, model: ModelLike | None = None, activation: str | None = None) -> Checkpoint:
        """Make the network; arguments and errors are those of ``load_checkpoint``.

        The result's ``activation_source`` tells where the activation was assumed.
        """
        if activation is not None:
            make_activation(activation)  # refuses unknown names
        spec = model if isinstance(model, str) and model.startswith("mlp:") else None
        source = resolve_model(model) if model is not None and spec is None else None
        contents = self._contents(source, weights_only=model is not None)
        origin = GIVEN
        if model is None and contents.module is None:
            if self.format.program:
                raise UntrustedCheckpointError(
                    f"{self.path} is a {contents.kind} archive, whose program is code and is not "
                    "run. Safe: give `model=file.py:factory` for its weights. If you trust the "
                    "file: `trust=True`"
                )
            if names_code(contents.architecture):
                source, origin = self._named_source(str(contents.architecture)), IN_FILE
        with naming(self.path):
            if contents.module is not None and spec is None and contents.is_made_by(source):
                made = contents.as_it_is(source)
            elif source is not None:
                made = contents.put_into(source, origin, activation)
            else:
                made = contents.as_perceptron(spec, activation)
            check_finite(made.model)
        return made

    def tensors(self) -> Checkpoint:
        """The tensors and metadata, for files of an unknown architecture.

        The ``model`` of the result only holds the tensors; it cannot be called.

        Raises:
            CheckpointError: the file holds no weights.
        """
        return self._contents(None, weights_only=True).as_tensors()

    def _contents(self, source: ModelSource | None, weights_only: bool) -> Contents:
        with reading(self.path):
            if self.trust and self.format.program and not weights_only:
                stored = self.format.run(self.raw, source)
            else:
                try:
                    stored = self._stored
                except UntrustedCheckpointError:
                    if not self.trust:
                        raise
                    stored = self.format.run(self.raw, source)
            return self._found(stored, find_weights(stored.content, self.key))

    def _found(self, stored: Stored, found: Found) -> Contents:
        kind, architecture, module = stored.kind, stored.architecture, found.module
        if module is None and (own := _setting_in(stored.content)) is not None:
            architecture = own.architecture
        if module is not None and stored.globals:
            module = without_wrapper(module)
            name = type(module).__name__
            pickled = (n for n in stored.globals if n.rpartition(".")[2] == name)
            kind = PICKLED_MODULE
            architecture = next(pickled, f"{type(module).__module__}.{name}")
        tensors = found.state if module is None else module.state_dict()
        state = {
            name: value.detach() if value.requires_grad else value
            for name, value in tensors.items()
            if isinstance(value, torch.Tensor)
        }
        integrity.check_expanded(self.path, state.values(), CheckpointError)
        check_kinds(state)
        unseen = "the file carries no checksums: damage to its numbers cannot be seen"
        return Contents(
            self.path, self.sha256, self.key, kind, state, module, architecture,
            {**found.metadata, **stored.metadata},
            found.notes if self.raw.checked else (*found.notes, unseen),
            stored.ordered, stored.buffers, found.parts,
        )  # fmt: skip

    def _named_source(self, spec: str) -> ModelSource:
        """The factory that the file names as its architecture; running it needs trust."""
        if not self.trust:
            raise UntrustedCheckpointError(
                f"{self.path} names {spec} as the factory of its network, which is code: give "
                f"`model={spec}` if you know it, or `trust=True`"
            )
        return resolve_model(spec)


def _setting_in(content: object) -> StoredSetting | None:
    own = content.get(KEY) if isinstance(content, Mapping) else None
    return StoredSetting.from_dict(own) if isinstance(own, Mapping) else None


def read_setting(path: str | Path) -> StoredSetting | None:
    """Setting that a checkpoint states; None where it states none, or cannot be read."""
    try:
        return CheckpointFile.open(path).setting
    except CheckpointError:  # whoever opens the file properly reports what is wrong with it
        return None
