"""Arrays on CUDA devices: a call's stream, and the way to the host where no kernel serves it.

The extension calls this module; it needs torch and CuPy only to name what they made themselves.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from trivium.errors import DeviceError

__all__ = ["stream", "to_host", "write_back"]

# By DLPack for CUDA: 1 is the legacy default stream, 2 the per-thread one, 0 is not used.
_LEGACY = 1

_warned: set[str] = set()


def stream(array: Any) -> int:
    """Name the stream on which `array` is being used: the caller's current one.

    torch and CuPy have a current stream; other exporters name theirs by the CUDA array interface.
    Without either, it is the legacy default stream, on which the exporter orders itself when asked
    for the capsule.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return int(torch.cuda.current_stream(array.device).cuda_stream) or _LEGACY
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        with array.device:
            return int(cupy.cuda.get_current_stream().ptr) or _LEGACY
    interface = getattr(array, "__cuda_array_interface__", None)
    if isinstance(interface, dict) and isinstance(named := interface.get("stream"), int):
        return named or _LEGACY
    return _LEGACY


class _HostCopy:
    """An array of a device as its exporter copies it to the host."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        options.pop("stream", None)
        return self._array.__dlpack__(dl_device=(1, 0), copy=True, **options)


def to_host(array: Any, reason: str) -> Any:
    """Copy an array to the host, for the CPU's path; one warning a reason and process."""
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"rows on a CUDA device are copied to the host and served by the CPU: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
    if hasattr(array, "cpu"):  # torch
        return array.detach().cpu()
    if hasattr(array, "get"):  # CuPy
        return array.get()
    return _HostCopy(array)


def write_back(array: Any, host: Any) -> None:
    """Copy what `to_host` gave, and the CPU changed, to the array that it was taken from.

    Raises
    ------
    DeviceError
        The array's library is neither torch nor CuPy.
    """
    if hasattr(array, "copy_"):  # torch
        array.copy_(host)
    elif hasattr(array, "set"):  # CuPy
        array.set(host)
    else:
        error = DeviceError(
            f"{type(array).__name__}: no kernel serves it, nor can the host write it in place"
        )
        raise error
