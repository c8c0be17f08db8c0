"""Keras 3 models as torch modules, on Keras' torch and JAX backends."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from benchmark.errors import UnsupportedModelError
from benchmark.frameworks.bridge import imported
from benchmark.frameworks.jax_models import from_jax


def from_keras(model: Any, *, channels_last: bool | None = None) -> nn.Module:
    """A Keras 3 model as a torch module, for `robustness_curve`, `clever_scores` and every measure.

    Keras computes on the backend it was started with. On torch (``KERAS_BACKEND=torch``) the model is a torch module
    already and is only called right: images channels last, in inference mode. On JAX it goes through `from_jax`. A
    ``.keras`` file that was saved on TensorFlow loads on either.

    Args:
        model: A built ``keras.Model`` that returns logits.
        channels_last: Whether it takes images as (n, h, w, c); by default what ``keras.config.image_data_format()``
            says.

    Returns:
        A module: images in [0, 1], float32, shape (n, c, h, w) -> logits (n, k).

    Raises:
        UnsupportedModelError: If Keras is not installed or runs on another backend; if the model is none of Keras 3, is
            not built, or ends in a softmax.
    """
    keras = imported("keras", face="from_keras", extra="keras")
    if not isinstance(model, keras.Model):
        raise UnsupportedModelError(f"from_keras takes a keras.Model of Keras 3, not a {type(model).__name__}.")
    if not model.built:
        raise UnsupportedModelError("The Keras model is not built: call it on a batch of images, or give it an Input.")
    _refuse_softmax(keras, model)
    if channels_last is None:
        channels_last = keras.config.image_data_format() == "channels_last"
    backend = keras.backend.backend()
    if backend == "torch":
        return KerasOnTorch(model, channels_last=channels_last)
    if backend != "jax":
        raise UnsupportedModelError(
            f"Keras runs on {backend}; its models are taken on torch and on JAX. Save the model as .keras, start "
            "Python with KERAS_BACKEND=torch, and load it there; or export it to ONNX."
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
        raise UnsupportedModelError(
            f"The Keras model ends in a softmax (layer {last.name!r}); attacks need logits. Set "
            "model.layers[-1].activation = keras.activations.linear, or cut off the Softmax layer."
        )
