"""Weights from files and into modules: nothing that could run is loaded, and what does not fit is named."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from plumbline import DISTRIBUTION

Module = TypeVar("Module", bound=nn.Module)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file, on the CPU.

    Args:
        path: ``….safetensors``, or any other name for what ``torch.save(model.state_dict(), path)`` wrote.

    Raises:
        ValueError: if the file is not there, is no such file, holds anything but tensors by name, or is a pickle that
            would run code; naming the path.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"weights must be an existing file, got {str(path)!r}")
    found = _safetensors(file) if file.suffix == ".safetensors" else _torch(file)
    return state_dict(found, f"the file {str(path)!r}")


def state_dict(value: Any, where: str = "it") -> dict[str, Tensor]:
    """Return ``value`` if it is a mapping from names to real floating-point tensors, or raise ValueError."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"weights must be a state dict (tensors by name), got {type(value).__name__} in {where}")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(
                f"weights must hold tensors by name, as model.state_dict() does, got {type(tensor).__name__} "
                f"under {name!r} in {where}"
            )
        if not tensor.is_floating_point():
            raise ValueError(f"weights must be real floating-point tensors, got {tensor.dtype} under {name!r}")
    return dict(value)


def fill(module: Module, weights: Mapping[str, Tensor]) -> Module:
    """Put the weights into the module, and return it.

    Raises:
        ValueError: if names or shapes are others than the module's, listing what was expected and what came, or if a
            weight is not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != got:
        raise ValueError(
            f"weights must fit {module}\n  expected: {_listed(expected)}\n  got:      {_listed(got)}\n"
            "(what names and shapes leave open is given beside the task, see `plumbline check-model --help`)"
        )
    finite(weights)
    module.load_state_dict(dict(weights))
    return module


def finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError if an entry of a tensor is not finite, naming the tensor."""
    for name, tensor in weights.items():
        if bad := int((~tensor.isfinite()).sum()):
            raise ValueError(f"weights must be finite, got {bad} of {tensor.numel()} entries of {name} that are not")


def _torch(file: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # on protocols; what then fails says so
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Of torch's message, which goes on to how to load the file all the same, only what the file would import.
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"weights must be tensors only: {str(file)!r} is no file of torch or a pickle that could run code"
            f"{f' ({named[1]})' if named else ''}, and was not loaded; save model.state_dict()"
        ) from None
    except Exception as error:  # the parser meets bytes of any kind, and raises as many kinds of errors
        raise ValueError(
            f"weights must be a file that torch.save wrote, got {str(file)!r}: {type(error).__name__} {error}"
        ) from None


def _safetensors(file: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise ValueError(
            f"weights in a .safetensors file need safetensors: pip install '{DISTRIBUTION}[models]'; got {str(file)!r}"
        ) from None
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"weights must be a file in the format of safetensors, got {str(file)!r}: {error}") from None


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "nothing"
