"Distances and cosines in full precision, whatever the precision of the network around them."

# Under mixed precision, autocast takes every matrix product to bfloat16, that of float32 features too. Distances of 13 between 2048-d features
# are then wrong by 0.4, more than a triplet's margin, and half of the hardest negatives are others. Whatever compares features is therefore
# decorated with `full_precision`. So are the two places that call losses by their description (`losses.triplet.metric_loss` and
# `losses.identity.Classifier`): a loss that is added from outside need not think of it.

import functools
from collections.abc import Callable
from typing import TypeVar

__all__ = ["full_precision"]

Function = TypeVar("Function", bound=Callable)


def full_precision(
    function: Function,  # of tensors
) -> Function:
    "The function without autocast; it gets tensors of half precision as float32, and everything else as it is."

    @functools.wraps(function)
    def in_full_precision(*arguments, **keywords):
        import torch  # descriptions and plans load this package without it

        def converted(value):
            is_half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
            return value.float() if is_half else value

        values = (*arguments, *keywords.values())
        devices = {value.device.type for value in values if isinstance(value, torch.Tensor)}
        with torch.autocast(max(devices, default="cpu"), enabled=False):  # the GPU where anything lies there
            named = {name: converted(value) for name, value in keywords.items()}
            return function(*map(converted, arguments), **named)

    return in_full_precision  # type: ignore[return-value]
