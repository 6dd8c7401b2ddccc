"""Checkpoint files, each opened once: format, digest, stored setting, and the network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hessscope.errors import AssumptionWarning, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.checkpoints.checkpoint import (
    ASSUMED,
    GIVEN,
    IN_FILE,
    Checkpoint,
    StoredSetting,
)
from hessscope.loaders.checkpoints.contents import Contents
from hessscope.loaders.checkpoints.formats import Format, Stored, recognise
from hessscope.loaders.checkpoints.hub import HUB
from hessscope.loaders.checkpoints.model_sources import ModelLike, ModelSource, resolve_model
from hessscope.loaders.checkpoints.perceptrons import make_activation
from hessscope.loaders.checkpoints.raw_files import RawFile, naming, reading
from hessscope.loaders.checkpoints.state_dicts import check_finite
from hessscope.loaders.user_code import names_code


def load_checkpoint(
    path: str | Path,
    model: ModelLike | None = None,
    activation: str | None = None,
    trust: bool = False,
    key: str | None = None,
) -> Checkpoint:
    """Open a trained network, whatever the format of its file.

    Args:
        path: of the file; of a folder that ``save_pretrained`` wrote, whose network the package
            ``transformers`` makes (an adapter of ``peft`` is merged into its base); ``hf:NAME`` or
            ``hf:NAME@REVISION`` for such a folder on the Hugging Face Hub; or ``file.py:factory``,
            for the weights that the network has as your own code makes it.
        model: the architecture where the file has none: a ``torch.nn.Module`` (a copy of it is
            filled), a factory or class without arguments, ``"file.py:factory"``,
            ``"package.module:factory"``, ``"timm:NAME"``, ``"mlp:784-25-10:relu"``, or a folder of
            ``save_pretrained``. A plain multi-layer perceptron is inferred from the shapes.
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
            f"the activation of {checkpoint.path.name} is not in the file: relu is assumed; state "
            "it with `activation`",
            AssumptionWarning,
            stacklevel=2,
        )
    return checkpoint


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file that has been read.

    Attributes:
        raw: its path, content and digest; of a folder's weights where a folder was given.
        format: how it is read.
        trust: whether its code may run.
        key: where in it the network is.
    """

    raw: RawFile
    format: Format
    trust: bool = False
    key: str | None = None

    @classmethod
    def open(cls, path: str | Path, trust: bool = False, key: str | None = None) -> CheckpointFile:
        """Read a file and recognise its format.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of no known format.
        """
        path = Path(path).expanduser()
        with reading(path):
            raw = RawFile.read(path)
            return cls(raw, recognise(raw), trust, key)

    @cached_property
    def setting(self) -> StoredSetting | None:
        """Setting that a checkpoint of ``hessscope train`` states; the loss that a Hugging Face
        folder implies; None for other files.
        """
        try:
            return self._stored.setting or StoredSetting.within(self._stored.content)
        except UntrustedCheckpointError:
            return None

    @cached_property
    def _stored(self) -> Stored:
        with reading(self.raw.path):
            return self.format.read(self.raw)

    def resolve(self, model: ModelLike | None = None, activation: str | None = None) -> Checkpoint:
        """Make the network; arguments and errors are those of ``load_checkpoint``.

        The result's ``activation_source`` tells where the activation was assumed.
        """
        if activation is not None:
            make_activation(activation)  # refuses unknown names
        spec = model if isinstance(model, str) and model.startswith("mlp:") else None
        source = self._source_of(model) if model is not None and spec is None else None
        contents = self._contents(source, weights_only=model is not None)
        module, named = contents.found.module, contents.stored.architecture
        origin = GIVEN
        if model is None and module is None:
            if self.format.program:
                raise UntrustedCheckpointError(
                    f"{self.raw.path} is a {contents.stored.kind} archive, whose program is code "
                    "and is not run. Safe: give `model=file.py:factory` for its weights. If you "
                    "trust the file: `trust=True`"
                )
            if named is not None and names_code(named):
                if not self.trust:
                    raise UntrustedCheckpointError(
                        f"{self.raw.path} names {named} as the factory of its network, which is "
                        f"code: give `model={named}` if you know it, or `trust=True`"
                    )
                source, origin = resolve_model(named), IN_FILE
        with naming(self.raw.path):
            if module is not None and spec is None and contents.is_made_by(source):
                made = contents.as_it_is(module, source)
            elif model is None and contents.stored.network is not None:
                made = contents.as_configured(activation, self.trust)
            elif source is not None:
                made = contents.put_into(source, origin, activation)
            else:
                made = contents.as_perceptron(spec, activation)
            check_finite(made.model)
        return made

    def _source_of(self, model: ModelLike) -> ModelSource:
        """Where the network comes from; of another checkpoint, its digest becomes the label's."""
        if isinstance(model, str) and (model.startswith(HUB) or Path(model).is_dir()):
            file = CheckpointFile.open(model, self.trust)
            label = f"network of {file.raw.path} (SHA-256 {file.raw.sha256[:16]})"
            return ModelSource(lambda: file.resolve().model, label)
        return resolve_model(model)

    def tensors(self) -> Checkpoint:
        """The tensors and metadata, for files of an unknown architecture.

        The ``model`` of the result only holds the tensors; it cannot be called.

        Raises:
            CheckpointError: the file holds no weights.
        """
        return self._contents(None, weights_only=True).as_tensors()

    def _contents(self, source: ModelSource | None, weights_only: bool) -> Contents:
        with reading(self.raw.path):
            try:
                if self.trust and self.format.program and not weights_only:
                    stored = self.format.run(self.raw, source)
                else:
                    stored = self._stored
            except UntrustedCheckpointError:
                if not self.trust:
                    raise
                stored = self.format.run(self.raw, source)
            return Contents.of(self.raw, self.key, stored)


def read_setting(path: str | Path) -> StoredSetting | None:
    """Setting that a checkpoint states; None where it states none, or cannot be read."""
    try:
        return CheckpointFile.open(path).setting
    except CheckpointError:  # whoever opens the file properly reports what is wrong with it
        return None
