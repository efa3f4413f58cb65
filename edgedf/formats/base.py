"""What a model file format has to offer, so that nothing else needs to know which one it is.

A format is a class of its own in a folder of its own, named in one line of
:data:`edgedf.formats.REGISTRY`. Importing its class loads no runtime and no quantizer: its methods
import what they need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedf.errors import MissingExtra
from edgedf.int8_kernels import Int8Kernels
from edgedf.precision import PrecisionName
from edgedf.progress import Progress, silent
from edgedf.spec import InputType, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgedf.formats.activations import Activations, Range
    from edgedf.formats.backend import Backend
    from edgedf.formats.container import Embedded
    from edgedf.formats.layers import Graphs, KeptLayers, NamedLayer
    from edgedf.formats.lint import LintLayer
    from edgedf.formats.operators import FoundKept, LayerPrecision, Operator, Partition
    from edgedf.formats.timed import Operators
    from edgedf.formats.weights import WeightGraph
    from edgedf.imaging import RGBImage

__all__ = ["Format", "ModelFormat", "ModelGraph", "named"]

ModelFormat = str
"""The name of a registered format, which is also the suffix of its files without the dot."""


def named(place: str) -> Any:
    """What is called so in a module, imported now.

    Args:
        place: ``module:name``.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


class Format(ABC):
    """A model file format with its runtime, its quantizer and its exporter.

    Attributes:
        name: Such as ``tflite``; also the suffix of its files, without the dot.
        extra: The extra of edgedf that installs its runtime.
        container: Module with ``recognises``, ``read_spec`` and ``embed``.
        backend: Module and class of its :class:`~edgedf.formats.backend.Backend`.
        timer: Module and function that time operators.
        export_tools: Distributions that shape the bytes of a float export.
        quantize_tools: Distributions that shape those of a quantized model.
        missing_precisions: Precisions that it does not have, each with the reason.
        integer_precisions: Precisions in which its runtime computes all operators in integers, but
            those at the ends.
        float_kernels: Operators that students need and its runtime has no integer kernel for, on a
            CPU.
        native_benchmark: Whether the native benchmark programs of a phone run it.
        after_saturation: What to do where a processor's int8 kernels are wrong.
        tools: Module and class of its :class:`ModelGraph`, which a board that measures lacks.
        exporter: Module and function that export a network.
        takes_own: Whether a model of somebody's own can be described and converted.
        survives_damage: Whether the runtime refuses damaged files instead of ending the process.
    """

    name: str
    extra: str
    container: Any
    backend: str
    timer: str
    export_tools: tuple[str, ...] = ()
    quantize_tools: tuple[str, ...] = ()
    float_kernels: frozenset[str] = frozenset()
    native_benchmark: bool = False
    missing_precisions: Mapping[PrecisionName, str] = {}
    integer_precisions: frozenset[PrecisionName] = frozenset({"int8"})
    after_saturation: str
    tools: str
    exporter: str
    takes_own: bool = False
    survives_damage: bool = True

    # The container

    def recognises(self, data: bytes) -> bool:
        """Whether a file's content is of this format; its name does not matter."""
        return bool(self.container.recognises(data))

    def check(self, data: bytes, path: Path) -> None:  # noqa: B027 - not every format can tell
        """Refuse a recognised file that is cut off or does not hold everything.

        Raises:
            ArtifactUnreadable: It is so, as far as can be told without the runtime.
        """

    def read_spec(self, data: bytes, path: Path) -> Embedded:
        """The spec inside a file, read without any runtime.

        Raises:
            ArtifactUnreadable: The metadata are damaged.
            SpecMissing: There is none.
            SpecUnsupported: It is too large.
        """
        found: Embedded = self.container.read_spec(data, path)
        return found

    def embed(self, model: bytes, spec: ModelSpec) -> bytes:
        """The model with the spec and its seal, in place of those that it has.

        Returns:
            The new file, the same bytes for the same arguments.
        """
        return bytes(self.container.embed(model, spec))

    # The runtime

    @abstractmethod
    def runtime(self) -> str | None:
        """The distribution that will run such files here, or None; nothing is imported."""

    def why_not_runnable(self) -> str:
        """Why no runtime runs such files here, where none does."""
        return "no runtime is installed"

    @abstractmethod
    def import_runtime(self) -> None:
        """Import the runtime, so that a measurement does not count it."""

    @abstractmethod
    def int8_kernels(self) -> Int8Kernels:
        """How the runtime multiplies int8 on this processor."""

    def session_options(self, precision: PrecisionName) -> Mapping[str, str]:
        """What an app has to set where it opens a session of its own, for the spec."""
        return {}

    def open_backend(self, model: bytes, *, threads: int = 1, reference: bool = False) -> Backend:
        """Load a model; see :func:`edgedf.formats.open_backend`."""
        opened: Backend = named(self.backend)(model, threads=threads, reference=reference)
        return opened

    def time_operators(
        self,
        configuration: int,
        model: bytes,
        threads: int,
        images: Sequence[RGBImage],
        queries: int,
    ) -> Operators:
        """Time each operator, and the same model without that, by turns.

        Args:
            configuration: Index of the configuration, for the event.
            model: The file.
            threads: For the runtime's operators, at least 1.
            images: Prepared pictures, at least one.
            queries: Inferences whose operators are timed, at least 1, and as many without.

        Raises:
            ArtifactError: The model cannot be run.
            MissingExtra: No runtime for the format is installed.
            OutputError: The folder for temporary files is full.
        """
        timed: Operators = named(self.timer)(configuration, model, threads, images, queries)
        return timed

    # The tools that convert

    def graph(self, model: bytes) -> ModelGraph:
        """A model to look into and to make others from; it is parsed once.

        Raises:
            ArtifactUnreadable: The model is damaged.
            MissingExtra: What reads the format is not installed.
        """
        try:
            made: ModelGraph = named(self.tools)(model, self)
        except ImportError as error:
            raise MissingExtra("convert", f"Reading a .{self.name} model") from error
        return made

    def export(self, network: Any, sample: Any) -> bytes:
        """Export a ``torch.nn.Module``.

        Args:
            network: uint8 (1, N, N, 3) → ``{"fake_logit": …, "defocus_map": …}``.
            sample: Such an input.

        Raises:
            ImportError: torch or a converter is not installed.
        """
        return bytes(named(self.exporter)(network, sample))


class ModelGraph(ABC):
    """A model file that is parsed once, for all that looks into it or makes another from it.

    Models that are made are graphs too, without a spec; nothing ever changes one in place.

    Attributes:
        format: Of the file.
        file: Its bytes.
    """

    format: Format
    file: bytes

    # A float model

    @abstractmethod
    def activations(self, *, threads: int = 1) -> Activations:
        """The float model, with all its activations to look at."""

    @abstractmethod
    def fixed_ranges(self) -> dict[str, Range]:
        """Ranges that are not measured: 0 to 255 of the input, the bound of the logit."""

    @abstractmethod
    def named_layers(self) -> tuple[NamedLayer, ...]:
        """The layers of the float model, in order of execution."""

    @abstractmethod
    def weights(self) -> WeightGraph:
        """The float model as convolutions whose weights can be changed."""

    @abstractmethod
    def to_int8(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        activation_bits: int = 8,
        ranges: Mapping[str, Range] | None = None,
        kept: KeptLayers | None = None,
        progress: Progress = silent,
    ) -> ModelGraph:
        """Quantize weights to int8, and activations to int8 or int16.

        Args:
            images: Calibration images, each uint8 RGB (N, N, 3).
            activation_bits: 8 or 16.
            ranges: Of float tensors by their names, which win over what would be measured; only
                what is not among them is measured.
            kept: Layers that stay float or get 16-bit activations.
            progress: Told about each image.

        Raises:
            ConfigError: A range is given for a tensor that the model does not have, or is none.
        """

    @abstractmethod
    def try_int8(self) -> ModelGraph:
        """Quantize to int8 with ranges from a few pictures, only to see what becomes of operators.

        The model's inputs may be of any kind.

        Raises:
            ArtifactUnreadable: The runtime refuses the model.
            Exception: It does not run, or the quantizer cannot quantize it.
        """

    @abstractmethod
    def to_int8_weights(self, *, dynamic: bool = False) -> ModelGraph:
        """Quantize the weights alone, to int8 with one scale per output channel."""

    @abstractmethod
    def to_fp16(self) -> ModelGraph:
        """Store the weights as float16; arithmetic stays float32."""

    # Any model

    @abstractmethod
    def with_input_type(self, wanted: InputType) -> ModelGraph:
        """The model with an input of another type.

        Raises:
            ConfigError: The model does not begin with a cast.
        """

    @abstractmethod
    def output_quantization(self) -> Mapping[str, tuple[float, int]]:
        """Scale and zero point behind each float output, without those made in float."""

    @abstractmethod
    def operators(self) -> tuple[Operator, ...]:
        """All operators of the file, in order of execution."""

    def computed(self) -> tuple[Operator, ...]:
        """What the runtime executes, with the types in which it computes."""
        return self.operators()

    def partitions(self) -> tuple[Partition, ...] | None:
        """What the delegate takes over; None where the format has none."""
        return None

    @abstractmethod
    def layer_precisions(self) -> tuple[LayerPrecision, ...]:
        """What each layer computes in."""

    @abstractmethod
    def slow_layers(self, names: Mapping[str, str], kept: KeptLayers) -> tuple[LintLayer, ...]:
        """Layers of an int8 model that compute in float, or that the delegate does not take.

        Args:
            names: Tensor → name of its layer in the float model.
            kept: Layers that were to stay out of int8, which are left out.
        """

    @abstractmethod
    def found_kept(self, computed: Sequence[Operator], kept: KeptLayers) -> FoundKept:
        """Compare what was to be kept with :meth:`computed`."""

    @abstractmethod
    def against(self, parent: ModelGraph, *, threads: int = 1) -> Graphs:
        """A quantized model and its parent, tensor by tensor."""
