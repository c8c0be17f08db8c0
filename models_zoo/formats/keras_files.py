"""Keras' ``.keras`` files: a ZIP archive of a configuration and an HDF5 file of weights, refused where it holds code.

Keras builds what the configuration names: classes of any module that can be imported, lambdas as marshalled byte code,
layers that unpickle. Its own safe mode refuses some of that, and has been passed by several times. So the
configuration is read here as data first, and every object in it must be one of the tables below. It is then loaded
(`models_zoo.serving.builders`) in safe mode, in the process that serves submitted code.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.weights import refuse_packed_zip

VERSION: Final = 1
"""Of how such files are read and run; it takes part in a model's digest."""

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.weights.h5"
MEMBERS: Final = frozenset({"metadata.json", CONFIG, WEIGHTS})

MAX_CONFIG_BYTES: Final = 16 << 20


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS: Final = _names(
    """
    Activation ActivityRegularization AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add AdditiveAttention
    AlphaDropout Attention Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization
    Bidirectional CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
    Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding
    Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN
    RandomBrightness RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom ReLU RepeatVector
    Rescaling Reshape Resizing SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract TimeDistributed
    UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)
"""Layers that compute with numbers alone. Not among them: Lambda, wrappers of other frameworks' modules (which
unpickle), SavedModels, lookups of vocabularies in files."""

OPERATIONS: Final = _names(
    """
    Absolute Add Average AveragePool BatchNorm BroadcastTo Celu Clip Concatenate Conv Cos DepthwiseConv Divide Dot
    Einsum Elu Exp Expand ExpandDims Flip Gelu GetItem Glu HardSigmoid HardSilu HardSwish HardTanh LeakyRelu Log
    LogSoftmax Matmul Max MaxPool Maximum Mean Min Minimum Moments Moveaxis Multiply Negative OnesLike Pad Power
    Prod Ravel Reciprocal Relu Relu6 Repeat Reshape Roll Selu Sigmoid Sign Silu Sin Softmax Softplus Softsign Split
    Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Swish Tanh Tile Transpose TrueDivide Var Where ZerosLike
    """
)
"""What functional models compute between layers."""

INITIALISERS: Final = _names(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    """
)

KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "keras": frozenset({"DTypePolicy", "Functional", "Model", "Sequential"}),
    "keras.models": frozenset({"Functional", "Model", "Sequential"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
    "keras.layers": LAYERS,
    "keras.initializers": INITIALISERS,
    "keras.regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.dtype_policies": frozenset({"DTypePolicy"}),
    "keras.src.ops.numpy": OPERATIONS,
    "keras.src.ops.nn": OPERATIONS,
}
"""Module, as a configuration names it -> its classes that may be built."""

VALUES: Final = frozenset({"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"})
"""How plain values are written down, as objects without a module."""


def check_keras(path: Path, name: str) -> None:
    """Refuse a ``.keras`` file that is damaged, unpacks to more than itself, or holds anything but layers and weights.

    Args:
        path: Where the file lies; its size and digest have been verified.
        name: What it is called.

    Raises:
        WeightsError: Naming what is in it that is not taken.
    """
    if not name.endswith(".keras"):
        raise WeightsError(
            f"{name} is no .keras file; models of Keras 3 are saved with model.save('{Path(name).stem}.keras'). An "
            "HDF5 file or a SavedModel of Keras 2 is loaded there and saved anew, or exported to ONNX."
        )
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{name} is no ZIP archive, which every .keras file is. Save it with model.save().")
    refuse_packed_zip(path, name, writer="Keras")
    configuration = _configuration(path, name)
    configuration.pop("compile_config", None)  # losses, metrics and optimiser: never built here
    for found in _objects(configuration):
        if said := _unknown(found):
            raise WeightsError(
                f"{name} holds {said}. Its layers must be Keras' own, none of them code of another's making (Lambda "
                "layers, custom objects, wrapped modules, vocabularies). Replace it by Keras' layers, or submit the "
                "model as ONNX: model.export('model.onnx', format='onnx')."
            )


def _configuration(path: Path, name: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if set(names) != MEMBERS or len(names) > len(MEMBERS):
                raise WeightsError(
                    f"{name} has the members {', '.join(names)[:200]}; a .keras file without code has "
                    f"{', '.join(sorted(MEMBERS))}, each once."
                )
            if archive.getinfo(CONFIG).file_size > MAX_CONFIG_BYTES:
                raise WeightsError(f"The {CONFIG} of {name} has more than {MAX_CONFIG_BYTES >> 20} MiB.")
            found = json.loads(archive.read(CONFIG))
    except WeightsError:
        raise
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RecursionError,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:
        raise WeightsError(f"{name} is a damaged .keras file: {shown(error)}. Save the model anew.") from error
    if not isinstance(found, dict) or "class_name" not in found:
        raise WeightsError(f"The {CONFIG} of {name} describes no model.")
    return found


def _objects(configuration: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every table that Keras would make an object of, however deep."""
    waiting: list[Any] = [configuration]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _unknown(found: Mapping[str, Any]) -> str:
    """What an object is that is not taken; empty if it is one of the tables."""
    kind, module, registered = (found.get(key) for key in ("class_name", "module", "registered_name"))
    if not isinstance(kind, str) or not (module is None or isinstance(module, str)):
        return "an object without a name"
    if kind in VALUES and module is None and registered is None:
        return ""
    said = f"{'' if module is None else module + '.'}{kind}"
    if registered not in (None, kind):
        return f"{said[:80]!r}, registered as {str(registered)[:80]!r}"
    # Older files leave out the module; Keras then looks among its own.
    known = any(kind in names for names in KNOWN.values()) if module is None else kind in KNOWN.get(module, ())
    return "" if known else repr(said[:160])
