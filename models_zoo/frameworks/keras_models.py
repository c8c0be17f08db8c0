"""Keras 3 models as torch modules, on Keras' torch, JAX and TensorFlow backends."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from models_zoo.errors import FrameworkError
from models_zoo.frameworks.jax_models import from_jax
from models_zoo.frameworks.tensorflow_models import bridged
from models_zoo.optional import optional


def from_keras(model: Any, *, channels_last: bool | None = None) -> nn.Module:
    """A Keras 3 model as a torch module; see `benchmark.from_keras`.

    Raises:
        FrameworkError: If Keras runs on another backend; if the model is none of Keras 3, is not built, or ends in a
            softmax.
        ZooError: If Keras is not installed.
    """
    keras = optional("keras", extra="keras", what="A Keras model")
    if not isinstance(model, keras.Model):
        raise FrameworkError(f"from_keras takes a keras.Model of Keras 3, not a {type(model).__name__}.")
    if not model.built:
        raise FrameworkError("The Keras model is not built: call it on a batch of images, or give it an Input.")
    _refuse_softmax(keras, model)
    if channels_last is None:
        channels_last = keras.config.image_data_format() == "channels_last"
    backend = keras.backend.backend()
    if backend == "torch":
        return KerasOnTorch(model, channels_last=channels_last)
    if backend == "tensorflow":
        tf = optional("tensorflow", extra="tensorflow", what="A Keras model on TensorFlow")
        return bridged(tf, partial(model, training=False), model.variables, channels_last=channels_last)
    if backend != "jax":
        raise FrameworkError(
            f"Keras runs on {backend}; its models are taken on torch, JAX and TensorFlow. Save the model as .keras, "
            "start Python with KERAS_BACKEND=torch, and load it there; or export it to ONNX."
        )

    def logits(held: tuple[list[Any], list[Any]], x: Any) -> Any:
        return model.stateless_call(*held, x, training=False)[0]

    trained = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    return from_jax(logits, (trained, others), channels_last=channels_last)


class KerasOnTorch(nn.Module):
    """A Keras model on its torch backend.

    Args:
        model: The model.
        channels_last: Whether it takes images as (n, h, w, c).
    """

    def __init__(self, model: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.model, self.channels_last = model, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w)."""
        shown = x.permute(0, 2, 3, 1) if self.channels_last else x
        return cast("Tensor", self.model(shown, training=False))

    def double_twin(self) -> nn.Module | None:
        """None: Keras converts images to the type that it was built with (`benchmark.twin.twin_of`)."""
        return None


def _refuse_softmax(keras: Any, model: Any) -> None:
    """A softmax saturates: where it is 1 in float32, no attack has a gradient, and the model looks robust."""
    last: Any = model.layers[-1] if getattr(model, "layers", None) else None
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise FrameworkError(
            f"The Keras model ends in a softmax (layer {last.name!r}); attacks need logits. Set "
            "model.layers[-1].activation = keras.activations.linear, or cut off the Softmax layer."
        )
