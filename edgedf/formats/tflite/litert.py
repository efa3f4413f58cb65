"""LiteRT's C API, as far as its profiler needs it, through ctypes.

Python's ``Interpreter`` and ``CompiledModel`` cannot time operators; the C library that
ai-edge-litert brings can (litert/c/litert_profiler.h). With profiling enabled XNNPACK reports each
operator of its own graph. Three generations of the API are spoken; which one, the library's
symbols tell:

==============  =====================================  =======================================
ai-edge-litert  options                                a model from memory
==============  =====================================  =======================================
2.1.0 to 2.1.2  one function each                      without the environment
2.1.3 to 2.1.5  text with an identifier                without the environment
2.2 and later   text with an identifier                with the environment
==============  =====================================  =======================================

A library that breaks with these may crash whoever calls it: that is done in a process of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import EdgedfError
from edgedf.formats.backend import as_input, import_runtime, unpack
from edgedf.formats.tflite.container import strip
from edgedf.imaging import RGBImage
from edgedf.spec import TensorInfo

__all__ = ["LIBRARY", "ProfiledModel", "ProfilerEvent"]

LIBRARY = "libLiteRt.so"

OPERATOR_EVENT = 1 << 1
DELEGATE_EVENT = 1 << 3

_CPU = 1
_READ, _WRITE = 0, 1
_LARGEST_EVENT = 256  # bytes, generously
_TENSOR_TYPE_BYTES = 512  # likewise, of a LiteRtRankedTensorType
_UNTOUCHED = 0xA5
_Pointer = ctypes.c_void_p
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_keep_payload = _Deleter(lambda payload: None)  # the text is ours and outlives the model


@dataclass(frozen=True)
class ProfilerEvent:
    """What the profiler noted.

    Args:
        tag: Operator of the interpreter or of the delegate.
        type: :data:`OPERATOR_EVENT`, :data:`DELEGATE_EVENT` or something else.
        microseconds: Its duration, rounded down.
        index: Of the operator, in the file or in the delegate's graph.
    """

    tag: str
    type: int
    microseconds: int
    index: int


class ProfiledModel:
    """A TFLite model in LiteRT whose operators are timed, run by its first signature.

    Args:
        model: The file.
        threads: For the operators, at least 1.
        tensors: Its inputs and outputs by their signature names, as a backend gives them.

    Raises:
        EdgedfError: The library is not there or a call fails.
    """

    def __init__(self, model: bytes, threads: int, tensors: Sequence[TensorInfo]) -> None:
        package = Path(import_runtime("ai_edge_litert").__file__).parent
        try:
            self._library = ctypes.CDLL(str(package / LIBRARY))
        except OSError as error:
            raise _cannot(str(error)) from error
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._kept: list[Any] = []  # what the library keeps pointers to
        self._environment = self._new("LiteRtCreateEnvironment", ctypes.c_int(0), None)
        self._model = self._load(strip(model))
        signature = self._new("LiteRtGetModelSignature", self._model, ctypes.c_size_t(0))
        options = self._options(threads)
        self._compiled = self._new(
            "LiteRtCreateCompiledModel", self._environment, self._model, options
        )
        self._library.LiteRtDestroyOptions(options)
        self._inputs = self._buffers(signature, "Input")
        self._outputs = self._buffers(signature, "Output")
        self._profiler = self._new("LiteRtCompiledModelGetProfiler", self._compiled)
        if not self._profiler.value:
            raise _cannot("the model has no profiler")
        self._call("LiteRtStartProfiler", self._profiler)

    def run(self, image: RGBImage) -> tuple[float, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.backend.Backend.run`."""
        ((name, taken),) = self._inputs.items()
        batch = np.ascontiguousarray(as_input(image, self._tensors[name].dtype))
        size, address = self._lock(taken, _WRITE)
        if size != batch.nbytes:
            raise _cannot(f"its input has {size} bytes, not {batch.nbytes}")
        ctypes.memmove(address, batch.ctypes.data, size)
        self._call("LiteRtUnlockTensorBuffer", taken)
        inputs, outputs = list(self._inputs.values()), list(self._outputs.values())
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(inputs)),
            (_Pointer * len(inputs))(*inputs),
            ctypes.c_size_t(len(outputs)),
            (_Pointer * len(outputs))(*outputs),
        )
        return unpack(self._read("fake_logit"), self._read("defocus_map"), "LiteRT")

    def take_events(self) -> list[ProfilerEvent]:
        """What was noted since the last call."""
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        if count.value <= 0:
            return []
        room = (ctypes.c_ubyte * (count.value * _LARGEST_EVENT))()
        ctypes.memset(room, _UNTOUCHED, len(room))
        self._call("LiteRtGetProfilerEvents", self._profiler, count, room)
        events = _events(bytes(room), count.value)
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)  # resetting has stopped it
        return events

    def close(self) -> None:
        """Free everything; the model cannot be used afterwards."""
        for buffer in (*self._inputs.values(), *self._outputs.values()):
            self._library.LiteRtDestroyTensorBuffer(buffer)
        self._library.LiteRtDestroyCompiledModel(self._compiled)
        self._library.LiteRtDestroyModel(self._model)
        self._library.LiteRtDestroyEnvironment(self._environment)

    def _load(self, model: bytes) -> ctypes.c_void_p:
        content = ctypes.create_string_buffer(model, len(model))
        self._kept.append(content)
        # Both came with the same version: creating one from a descriptor, and the environment.
        of_environment = self._has("LiteRtCreateModelFromFd")
        return self._new(
            "LiteRtCreateModelFromBuffer",
            *((self._environment,) if of_environment else ()),
            content,
            ctypes.c_size_t(len(model)),
        )

    def _options(self, threads: int) -> ctypes.c_void_p:
        options = self._new("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        if self._has("LiteRtCreateRuntimeOptions"):
            for family, setting, value in (
                ("Runtime", "EnableProfiling", ctypes.c_bool(True)),
                ("Cpu", "NumThread", ctypes.c_int(threads)),
            ):
                opaque = self._new(f"LiteRtCreate{family}Options")
                found = self._new(f"LiteRtFind{family}Options", opaque)
                self._call(f"LiteRtSet{family}Options{setting}", found, value)
                self._call("LiteRtAddOpaqueOptions", options, opaque)
            return options
        for identifier, text in (
            (b"runtime_options_string", b"enable_profiling = true\n"),
            (b"xnnpack", b"num_threads = %d\n" % threads),
        ):
            payload = ctypes.create_string_buffer(text)
            self._kept.append(payload)
            opaque = self._new("LiteRtCreateOpaqueOptions", identifier, payload, _keep_payload)
            self._call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _buffers(self, signature: ctypes.c_void_p, kind: str) -> dict[str, ctypes.c_void_p]:
        """A buffer per input or output, by its name in the signature and in its order."""
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        buffers = {}
        for number in range(count.value):
            at = ctypes.c_size_t(number)
            name = ctypes.c_char_p()
            self._call(f"LiteRtGetSignature{kind}Name", signature, at, ctypes.byref(name))
            tensor = self._new(f"LiteRtGetSignature{kind}TensorByIndex", signature, at)
            about = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
            self._call("LiteRtGetRankedTensorType", tensor, about)
            needs = self._new(
                f"LiteRtGetCompiledModel{kind}BufferRequirements",
                self._compiled,
                ctypes.c_size_t(0),
                at,
            )
            buffers[(name.value or b"").decode()] = self._new(
                "LiteRtCreateManagedTensorBufferFromRequirements", self._environment, about, needs
            )
        return buffers

    def _lock(self, buffer: ctypes.c_void_p, mode: int) -> tuple[int, ctypes.c_void_p]:
        size = ctypes.c_size_t()
        self._call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        address = _Pointer()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(mode))
        return size.value, address

    def _read(self, name: str) -> NDArray[np.float32]:
        if name not in self._outputs:
            raise _cannot(f"it has no output {name}")
        size, address = self._lock(self._outputs[name], _READ)
        values = np.frombuffer(ctypes.string_at(address, size), np.float32)
        self._call("LiteRtUnlockTensorBuffer", self._outputs[name])
        return values.reshape(self._tensors[name].shape)

    def _has(self, name: str) -> bool:
        return hasattr(self._library, name)

    def _new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function whose last parameter takes what it makes or finds."""
        made = _Pointer()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        if not self._has(name):
            raise _cannot(f"it has no {name}")
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise _cannot(f"{name} gives status {status}")


def _events(data: bytes, count: int) -> list[ProfilerEvent]:
    """Read the C structs ``ProfiledEventData``, whose middle part differs between versions.

    They begin with a pointer to the tag, the type, start and duration, and end with two numbers
    of the operator and the source, all in 8 bytes each; in between are two records on memory. How
    large one is, the part of the room that was written tells.
    """
    written = len(data.rstrip(bytes([_UNTOUCHED])))
    size = -(-written // count)
    size += -size % 8
    words = np.frombuffer(data[: size * count], np.uint64).reshape(count, size // 8)
    if size < 7 * 8 or size > _LARGEST_EVENT:
        raise _cannot(f"its events have {size} bytes")
    return [
        ProfilerEvent(
            (ctypes.c_char_p(int(row[0])).value or b"").decode(errors="replace"),
            int(row[1]) & 0xFFFFFFFF,
            int(row[3]),
            int(row[-3]),
        )
        for row in words
    ]


def _cannot(reason: str) -> EdgedfError:
    return EdgedfError(
        f"{reason}.",
        expected="ai-edge-litert 2.1 to 2.3",
        next_step="install such a version to see what each operator takes",
    )
