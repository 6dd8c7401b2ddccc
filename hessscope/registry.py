"""Registries of extensions: built-in names, and those that other packages add by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hessscope.errors import OptionError, UnknownNameError


class Registry(Mapping[str, Any]):
    """Extensions of one kind by their names; each is imported when it is first asked for.

    Another package adds its own by an entry point of the registry's group::

        [project.entry-points."hessscope.backends"]
        mine = "my_package.my_module:MyBackend"

    Names are written with underscores; dashes are accepted.

    Args:
        kind: what a message calls one of them.
        group: of the entry points.
        **builtin: ``module:attribute`` by name.

    Example:
        >>> from hessscope.registry import ZERO_RULES
        >>> ZERO_RULES["noise-floor"].__name__
        'NoiseFloorRule'
    """

    def __init__(self, kind: str, group: str, /, **builtin: str) -> None:
        self.kind, self.group = kind, group
        self._points = {name: EntryPoint(name, value, group) for name, value in builtin.items()}
        self._searched = False

    def name_of(self, text: str) -> str:
        """The registered spelling of a name.

        Raises:
            UnknownNameError: there is none; the message suggests the nearest.
        """
        name = text.replace("-", "_")
        if name not in self.points:
            raise UnknownNameError(self.kind, text, self.points)
        return name

    @property
    def points(self) -> Mapping[str, EntryPoint]:
        """Where each is found; built-in names cannot be taken by others."""
        if not self._searched:
            found = {
                point.name.replace("-", "_"): point for point in entry_points(group=self.group)
            }
            self._points = {**self._points, **{n: found[n] for n in found if n not in self._points}}
            self._searched = True
        return self._points

    def __getitem__(self, text: str) -> Any:
        name = self.name_of(text)
        point = self.points[name]
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise OptionError(
                f"the {self.kind} {name} is registered as {point.value}, which cannot be imported "
                f"({error}): mend or uninstall the package that registers it"
            ) from error

    def find(self, wanted: Any) -> Any:
        """What a name stands for; an object or a class is given back as it is."""
        return self[wanted] if isinstance(wanted, str) else wanted

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.replace("-", "_") in self.points

    def __iter__(self) -> Iterator[str]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)


BACKENDS = Registry(
    "backend",
    "hessscope.backends",
    exact="hessscope.backends.exact:ExactBackend",
    lanczos="hessscope.backends.lanczos:LanczosBackend",
    pyhessian="hessscope.backends.pyhessian:PyHessianBackend",
)
OPERATORS = Registry(
    "operator",
    "hessscope.operators",
    hessian="hessscope.operators.hessian:HessianOperator",
    gauss_newton="hessscope.operators.through_outputs:GaussNewtonOperator",
    fisher="hessscope.operators.through_outputs:FisherOperator",
    empirical_fisher="hessscope.operators.through_outputs:EmpiricalFisherOperator",
)
#: How products with the Hessian are computed.
PRODUCTS = Registry(
    "way of products",
    "hessscope.products",
    exact="hessscope.operators.hessian:HessianOperator",
    finite_difference="hessscope.operators.finite_differences:FiniteDifferenceHessian",
)
ZERO_RULES = Registry(
    "zero rule",
    "hessscope.zero_rules",
    noise_floor="hessscope.spectra.zero_rules:NoiseFloorRule",
    absolute="hessscope.spectra.zero_rules:AbsoluteRule",
    relative="hessscope.spectra.zero_rules:RelativeRule",
    sankar2017="hessscope.spectra.zero_rules:Sankar2017Rule",
)
DATASETS = Registry(
    "data set",
    "hessscope.datasets",
    mnist="hessscope.loaders.data.named.mnist:MNIST",
    fashion_mnist="hessscope.loaders.data.named.mnist:FASHION_MNIST",
    cifar10="hessscope.loaders.data.named.cifar10:CIFAR10",
    digits="hessscope.loaders.data.named.digits:DIGITS",
)
OPTIMIZERS = Registry(
    "optimizer",
    "hessscope.optimizers",
    sgd="hessscope.training.optimizers:SGD",
    momentum="hessscope.training.optimizers:MOMENTUM",
    nesterov="hessscope.training.optimizers:NESTEROV",
    adam="hessscope.training.optimizers:ADAM",
    adagrad="hessscope.training.optimizers:ADAGRAD",
    noisy_sgd="hessscope.training.optimizers:NOISY_SGD",
    perturbed_gd="hessscope.training.optimizers:PERTURBED_GD",
    damped_newton="hessscope.training.optimizers:DAMPED_NEWTON",
    sfn="hessscope.training.optimizers:SFN",
    krylov_sfn="hessscope.training.optimizers:KRYLOV_SFN",
)
#: What divides θ into parts: functions of an ``EmpiricalRisk``.
PARTITIONS = Registry(
    "partition",
    "hessscope.partitions",
    module="hessscope.objective.parts:by_module",
    block="hessscope.objective.parts:by_block",
    role="hessscope.objective.roles:by_role",
    head="hessscope.objective.roles:by_head",
)
#: What reads sources that are no ``Dataset`` yet, so that the numerics know no files.
READERS = Registry("reader", "hessscope.readers", data="hessscope.loaders.data:load_data")
FORMATS = Registry(
    "checkpoint format",
    "hessscope.formats",
    factory="hessscope.loaders.checkpoints.made_files:FactoryFormat",
    adapter="hessscope.loaders.checkpoints.adapters:AdapterFormat",
    pretrained="hessscope.loaders.checkpoints.pretrained:PretrainedFormat",
    sharded="hessscope.loaders.checkpoints.sharded_files:ShardedFormat",
    torch_export="hessscope.loaders.checkpoints.exported:ExportFormat",
    torchscript="hessscope.loaders.checkpoints.torchscript:TorchScriptFormat",
    torch_zip="hessscope.loaders.checkpoints.torch_files:ZipFormat",
    safetensors="hessscope.loaders.checkpoints.safetensors_files:SafetensorsFormat",
    torch_legacy="hessscope.loaders.checkpoints.torch_files:LegacyFormat",
)
METHODS = Registry(
    "method",
    "hessscope.methods",
    newton="hessscope.refinement.newton:Newton",
    damped_newton="hessscope.refinement.newton:DampedNewton",
    sfn="hessscope.refinement.newton:SaddleFreeNewton",
    krylov_sfn="hessscope.refinement.krylov:KrylovSaddleFree",
    newton_mr="hessscope.refinement.newton_mr:NewtonMR",
    gradient_norm="hessscope.refinement.gradients:GradientNormDescent",
    gradient_descent="hessscope.refinement.gradients:GradientDescent",
)
GLOBALISATIONS = Registry(
    "globalisation",
    "hessscope.globalisations",
    backtracking="hessscope.refinement.globalisation:Backtracking",
    trust_region="hessscope.refinement.globalisation:TrustRegion",
    natural="hessscope.refinement.globalisation:NaturalDamping",
    damping_search="hessscope.refinement.globalisation:DampingSearch",
    fixed="hessscope.refinement.globalisation:FixedStep",
)
LAYOUTS = Registry(
    "layout",
    "hessscope.layouts",
    summary="hessscope.reports.layouts.summary:summary",
    outcomes="hessscope.reports.layouts.outcomes:outcomes",
    records="hessscope.reports.layouts.records:records",
    methods="hessscope.reports.layouts.methods:methods",
    sweep="hessscope.reports.layouts.sweep:sweep",
    causes="hessscope.reports.layouts.causes:causes",
    parts="hessscope.reports.layouts.parts:parts",
    distances="hessscope.reports.layouts.parts:distances",
    series="hessscope.reports.layouts.series:series",
    table1="hessscope.reports.layouts.sankar2017:table1",
    table2="hessscope.reports.layouts.sankar2017:table2",
    table3="hessscope.reports.layouts.sankar2017:table3",
    table5="hessscope.reports.layouts.sankar2017:table5",
    table7="hessscope.reports.layouts.sankar2017:table7",
    table8="hessscope.reports.layouts.sankar2017:table8",
    table9="hessscope.reports.layouts.sankar2017:table9",
    autoencoder="hessscope.reports.layouts.sankar2017:autoencoder",
)
FIGURES = Registry(
    "figure",
    "hessscope.figures",
    epsilon_alpha="hessscope.reports.figures.epsilon_alpha:plot_epsilon_alpha",
    eigenvalues="hessscope.reports.figures.distributions:plot_eigenvalue_distributions",
    spectrum="hessscope.reports.figures.spectrum:plot_spectrum",
    parts="hessscope.reports.figures.parts:plot_parts",
    section="hessscope.reports.figures.section:plot_section",
    trace="hessscope.reports.figures.trace:plot_trace",
    series="hessscope.reports.figures.series:plot_series",
)
