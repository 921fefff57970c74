"""Parts that the modules of the kernels share: the choice among variants, the table's arithmetic, and the CUDA driver by ctypes."""

import contextlib
import ctypes
import dataclasses
import math
import os
import pathlib
import threading

import cupy
import numpy

FOLDER = pathlib.Path(__file__).parent


class Error(Exception):
    """Reason why a kernel was not launched."""


class DriverError(Error):
    """The CUDA driver failed."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A variant, and the rule that chose it."""

    variant: int
    rule: str


@dataclasses.dataclass(frozen=True)
class Launch:
    """The geometry of one launch; `cluster` is None without clusters."""

    stage: int
    grid: tuple
    block: tuple
    cluster: tuple
    dynamic_shared: int
    cooperative: bool


@dataclasses.dataclass(frozen=True)
class Code:
    """The code of a variant for one architecture; `kind` is "ptx", "generation" or "exact"."""

    arch: tuple
    kind: str
    file: str
    symbols: tuple

    def runs_on(self, capability):
        """Whether a device of this compute capability runs it."""
        if self.kind == "ptx":
            return self.arch <= capability
        if self.kind == "generation":
            return self.arch[0] == capability[0] and self.arch[1] <= capability[1]
        return self.arch == capability


@contextlib.contextmanager
def sizes_of(kernel):
    """Turns an expression without a value into an error of this module."""
    try:
        yield
    except (ArithmeticError, ValueError) as error:
        raise Error(f"`{kernel}` has no launch for these sizes: {error}") from error


# The driver.


class _Dim3(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint)]


class _AttributeValue(ctypes.Union):
    _fields_ = [("pad", ctypes.c_char * 64), ("cluster", _Dim3), ("cooperative", ctypes.c_int)]


class _Attribute(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_char * 4), ("value", _AttributeValue)]


class _Config(ctypes.Structure):
    _fields_ = [
        ("grid", _Dim3),
        ("block", _Dim3),
        ("dynamic_shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint),
    ]


class TensorMap(ctypes.Structure):
    """A CUtensorMap."""

    _fields_ = [("opaque", ctypes.c_uint64 * 16)]


_CLUSTER, _COOPERATIVE = 4, 2
_SHARED_SIZE, _MAX_DYNAMIC_SHARED, _NON_PORTABLE_CLUSTER = 1, 8, 14
_MAX_SHARED_OPTIN = 97


def _library():
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise Error("no library of the CUDA driver")


_driver = None
_driver_lock = threading.Lock()


def driver(function, *arguments):
    """Calls a function of the driver."""
    global _driver
    with _driver_lock:
        _driver = _driver or _library()
    status = getattr(_driver, function)(*arguments)
    if status != 0:
        name = ctypes.c_char_p()
        _driver.cuGetErrorName(status, ctypes.byref(name))
        raise DriverError(f"{function}: {(name.value or b'error').decode()} ({status})")


class Loaded:
    """A kernel on a device: the functions of each variant are loaded when it is first launched."""

    def __init__(self, device):
        properties = cupy.cuda.runtime.getDeviceProperties(device)
        self.device = device
        self.name = properties["name"].decode()
        self.capability = (properties["major"], properties["minor"])
        self.arch = f"{self.capability[0]}.{self.capability[1]}"
        self.sm_count = properties["multiProcessorCount"]
        self._variants = {}
        self._lock = threading.Lock()

    def code(self, codes):
        """The code for the device: machine code before PTX, and the latest architecture before earlier ones."""
        runs = [code for code in codes if code.runs_on(self.capability)]
        if not runs:
            archs = ", ".join(f"{code.arch[0]}.{code.arch[1]} ({code.kind})" for code in codes)
            raise Error(f"no code for {self.name} (compute capability {self.arch}); there is code for {archs}")
        order = ["ptx", "generation", "exact"]
        return max(runs, key=lambda code: (code.kind != "ptx", code.arch, order.index(code.kind)))

    def functions(self, variant, codes):
        """The module of a variant and the function of each of its launches, by its place; this device is current."""
        with self._lock:
            if variant not in self._variants:
                self._variants[variant] = self._load(self.code(codes))
            return self._variants[variant]

    def _load(self, code):
        image = (FOLDER / code.file).read_bytes() + b"\0"
        module = ctypes.c_void_p()
        driver("cuModuleLoadData", ctypes.byref(module), image)
        most = ctypes.c_int()
        driver("cuDeviceGetAttribute", ctypes.byref(most), _MAX_SHARED_OPTIN, self.device)
        functions = {}
        for stage, symbol in code.symbols:
            function, own = ctypes.c_void_p(), ctypes.c_int()
            driver("cuModuleGetFunction", ctypes.byref(function), module, symbol.encode())
            # All that the device allows beside the function's own, so that no launch has to ask for it.
            driver("cuFuncGetAttribute", ctypes.byref(own), _SHARED_SIZE, function)
            driver("cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED, most.value - own.value)
            functions[stage] = function
        return module, functions


class Kernel:
    """Facts of a kernel: its name in the table, the winners of elite.json, and its defaults."""

    def __init__(self, name, variable, variants, tuned, defaults):
        self.name = name
        self.variable = variable
        self.variants = variants
        self.tuned = tuned
        self.defaults = defaults
        self._devices = {}
        self._lock = threading.Lock()

    def loaded(self):
        """The kernel on the current device, whose context is current then."""
        device = cupy.cuda.Device().id
        context = ctypes.c_void_p()
        driver("cuInit", 0)
        driver("cuCtxGetCurrent", ctypes.byref(context))
        if not context:
            cupy.cuda.runtime.free(0)
        with self._lock:
            if device not in self._devices:
                self._devices[device] = Loaded(device)
            return self._devices[device]

    def pick(self, loaded, sizes, fits):
        """The variant for these sizes on a device, among those that `fits` says are compiled for them."""
        named = os.environ.get(self.variable)
        if named is not None and named != "default":
            names = [f"v{variant}" for variant in range(len(self.variants))]
            if named not in names:
                raise Error(f"{self.variable}={named} names no variant; they are called v0, v1 and so on, and default")
            if fits(names.index(named)):
                return Choice(names.index(named), "an environment variable names it")
            raise self._no_variant()
        for here, rule in (
            (lambda device, arch: device == loaded.name, "it won on this device at the nearest sizes"),
            (lambda device, arch: arch == loaded.arch, "it won on another device of this architecture"),
        ):
            found = [(_distance(at, sizes), at, variant) for device, arch, at, variant in self.tuned
                     if named is None and here(device, arch) and fits(variant)]
            if found:
                _, at, variant = min(found, key=lambda row: row[0])
                same = at == sizes and here(loaded.name, None)
                return Choice(variant, "it won on this device at these sizes" if same else rule)
        for variant in self.defaults:
            if fits(variant):
                return Choice(variant, "it is the default")
        raise self._no_variant()

    def _no_variant(self):
        return Error(f"no variant of `{self.name}` was compiled for these sizes; export the kernel with a shape like them")


def _distance(a, b):
    return sum(abs(math.log(max(x, 1) / max(y, 1))) for x, y in zip(a, b))


def check_sizes(sizes):
    """Checks the sizes of a problem."""
    for size in sizes:
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"{size!r} is no size")


def check(name, array, dtype, shape, device):
    """Checks an argument, and gives its address."""
    if not isinstance(array, cupy.ndarray):
        raise TypeError(f"`{name}` is a {type(array).__name__}, not a cupy.ndarray")
    if array.dtype != numpy.dtype(dtype):
        raise TypeError(f"`{name}` has dtype {array.dtype} where the kernel takes {numpy.dtype(dtype)}")
    if array.shape != shape:
        raise ValueError(f"`{name}` has shape {array.shape} where the sizes ask for {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"`{name}` is not contiguous in row-major order")
    if array.device.id != device:
        raise ValueError(f"`{name}` lies on device {array.device.id}, the current one is {device}")
    return array.data.ptr


def run(function, launch, stream, arguments):
    """Launches a function; `arguments` are objects of ctypes."""
    pointers = (ctypes.c_void_p * max(len(arguments), 1))(*(ctypes.addressof(argument) for argument in arguments))
    attributes = (_Attribute * 2)()
    count = 0
    if launch.cluster is not None:
        attributes[count].id = _CLUSTER
        attributes[count].value.cluster = _Dim3(*map(unsigned, launch.cluster))
        count += 1
        # More than 8 blocks a cluster have to be asked for.
        if math.prod(launch.cluster) > 8:
            driver("cuFuncSetAttribute", function, _NON_PORTABLE_CLUSTER, 1)
    if launch.cooperative:
        attributes[count].id = _COOPERATIVE
        attributes[count].value.cooperative = 1
        count += 1
    grid, block = _Dim3(*map(unsigned, launch.grid)), _Dim3(*map(unsigned, launch.block))
    config = _Config(grid, block, unsigned(launch.dynamic_shared), stream.ptr, attributes, count)
    driver("cuLaunchKernelEx", ctypes.byref(config), function, pointers, None)


def zero(address, size, stream):
    """Fills memory with zero bytes."""
    driver("cuMemsetD8Async", ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(size), ctypes.c_void_p(stream.ptr))


def copy_to_symbol(module, symbol, address, size, stream):
    """Copies device memory to a symbol of a module."""
    place, own = ctypes.c_uint64(), ctypes.c_size_t()
    driver("cuModuleGetGlobal_v2", ctypes.byref(place), ctypes.byref(own), module, symbol.encode())
    if own.value < size:
        raise Error(f"the symbol `{symbol}` has {own.value} bytes where the sizes ask for {size}")
    driver("cuMemcpyDtoDAsync_v2", place, ctypes.c_uint64(address), ctypes.c_size_t(size), ctypes.c_void_p(stream.ptr))


def tensor_map(data_type, size, address, dims, box, swizzle):
    """A row-major map of a tensor; sizes and box with the innermost dimension first."""
    rank = len(dims)
    strides, total = [], size
    for dim in dims:
        total *= dim
        strides.append(total)
    encoded = (ctypes.c_char * (ctypes.sizeof(TensorMap) + 64))()
    # The driver wants it at a multiple of 64 bytes.
    aligned = -ctypes.addressof(encoded) % 64
    tensor = TensorMap.from_buffer(encoded, aligned)
    wide, narrow_ = ctypes.c_uint64 * rank, ctypes.c_uint32 * rank
    driver(
        "cuTensorMapEncodeTiled",
        ctypes.byref(tensor),
        data_type,
        ctypes.c_uint32(rank),
        ctypes.c_void_p(address),
        wide(*dims),
        wide(*strides),
        narrow_(*map(unsigned, box)),
        narrow_(*[1] * rank),
        0,
        {0: 0, 32: 1, 64: 2, 128: 3}[swizzle],
        2,
        0,
    )
    return tensor


# Numbers as they are passed.


def integer(kind, value):
    """An integer that has to fit its type."""
    number = kind(value)
    if number.value != value:
        raise ValueError(f"{value} does not fit {kind.__name__}")
    return number


def unsigned(value):
    """A size of a launch."""
    if not 0 <= value < 2**32:
        raise ValueError(f"{value} is no size of a launch")
    return value


def narrow(kind, value, mantissa, bias, largest, above):
    """The bits of a number in a narrower format, rounded to the nearest, ties to even: its bits after the point, the bias of its exponent,
    its largest number, and what stands for larger ones."""
    sign = 1 << largest.bit_length()
    if math.isnan(value):
        return kind(sign - 1)
    bits = above
    if math.isfinite(value):
        # Below the smallest normal number the steps stay as wide.
        exponent = max(math.frexp(abs(value))[1] - 1, 1 - bias)
        bits = ((exponent + bias - 1) << mantissa) + round(math.ldexp(abs(value), mantissa - exponent))
        bits = above if bits > largest else bits
    return kind(sign | bits if math.copysign(1, value) < 0 else bits)


# The table's arithmetic, where it is not Python's.


def whole(value):
    """A number without a fraction as an integer."""
    if value != math.floor(value) or abs(value) >= 9e15:
        raise ValueError(f"{value} is not whole")
    return int(value)


def ceil_div(a, b):
    """The quotient, rounded up."""
    return -(-a // b)


def ceil_div_real(a, b):
    """The quotient, rounded up."""
    return whole(float(math.ceil(a / b)))


def is_power_of_two(value):
    """Whether a number is a power of two."""
    return value > 0 and value & (value - 1) == 0


def power(base, exponent):
    """The power to an exponent of 0 or more, as far as 64 bits go."""
    if exponent < 0 or (abs(base) > 1 and exponent > 63):
        raise ValueError(f"{base} ** {exponent} does not fit")
    return base**exponent


def power_real(base, exponent):
    """The power, where it is a finite number."""
    value = math.pow(base, exponent)
    if not math.isfinite(value):
        raise ValueError(f"{base} ** {exponent} is not finite")
    return value


def shift_left(value, bits):
    """The bits shifted left, where none is lost."""
    if bits < 0 or (value != 0 and bits > 63):
        raise ValueError(f"{value} << {bits} does not fit")
    return value << bits if value else 0
