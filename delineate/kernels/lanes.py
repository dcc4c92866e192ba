"""Eight float32 numbers that a compiled loop adds, multiplies and raises together, in one register.

The loops of the dense CRF read a row of labels at a place that only the data know, several times for each pixel. The
compiler does not vectorise such a loop by itself: it cannot know that the rows do not overlap, and a sum kept in an
array goes through memory at each step. A value of type ``Lanes`` stays in a register, on any processor.

Rows are therefore padded to a multiple of ``LANES`` numbers. The functions are for compiled code only.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8
_compiled: Any = intrinsic  # what compiled code calls has another signature than what generates it
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WHOLE = ir.VectorType(ir.IntType(32), LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_MAGIC = 12582912.0  # 1.5 * 2 ** 23: added to a small float32 it leaves the nearest whole number in the lowest bits
_LOG2_E = 1.44269504088896341
_LN2 = (0.693359375, -2.12194440e-4)  # in two parts, the first with few digits: its products are exact
# the polynomial of Moshier's Cephes library for (exp(x) - 1 - x) / x ** 2, from the highest power
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LOWEST = (
    -60.0
)  # below, exp is 0: products of it would be denormal numbers, which processors handle a hundred times slower


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


lanes_type = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _constant(kind, value):
    return ir.Constant(kind, [value] * LANES)


def _multiply_add(builder, a, b, c):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32"), [a, b, c])


def _place(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@_compiled
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index : index + LANES]`` of a flat contiguous float32 array."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load(place, align=4)

    return lanes_type(array, types.intp), generate


@_compiled
def store(typing_context: Any, array: Any, index: Any, lanes: Any) -> Any:
    """``array[index : index + LANES] = lanes``."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature.args[0], *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type), generate


@_compiled
def fill(typing_context: Any, value: Any) -> Any:
    """The same number in every lane."""

    def generate(context, builder, signature, arguments):
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), arguments[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), _constant(_WHOLE, 0))

    return lanes_type(types.float32), generate


@_compiled
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in every lane."""

    def generate(context, builder, signature, arguments):
        return _multiply_add(builder, *arguments)

    return lanes_type(lanes_type, lanes_type, lanes_type), generate


@_compiled
def add(typing_context: Any, a: Any, b: Any) -> Any:
    """``a + b`` in every lane."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return lanes_type(lanes_type, lanes_type), generate


@_compiled
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two in every lane."""

    def generate(context, builder, signature, arguments):
        a, b = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    return lanes_type(lanes_type, lanes_type), generate


def _fold(builder, lanes, combine):
    """One number of the lanes: the upper half onto the lower, and so on."""
    width = LANES
    while width > 1:
        width //= 2
        order = [width + i if i < width else i for i in range(LANES)]
        mask = ir.Constant(_WHOLE, order)
        lanes = combine(lanes, builder.shuffle_vector(lanes, ir.Constant(_VECTOR, ir.Undefined), mask))
    return builder.extract_element(lanes, ir.IntType(32)(0))


@_compiled
def largest(typing_context: Any, lanes: Any) -> Any:
    """The largest of the lanes."""

    def generate(context, builder, signature, arguments):
        def combine(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _fold(builder, arguments[0], combine)

    return types.float32(lanes_type), generate


@_compiled
def total(typing_context: Any, lanes: Any) -> Any:
    """The sum of the lanes."""

    def generate(context, builder, signature, arguments):
        return _fold(builder, arguments[0], builder.fadd)

    return types.float32(lanes_type), generate


@_compiled
def exponential(typing_context: Any, lanes: Any) -> Any:
    """``exp`` of numbers up to 0, to about 1e-7 of its value; 0 below ``LOWEST``."""

    def generate(context, builder, signature, arguments):
        x = arguments[0]
        magic, one = _constant(_VECTOR, _MAGIC), _constant(_VECTOR, 1.0)
        shifted = _multiply_add(builder, x, _constant(_VECTOR, _LOG2_E), magic)
        power = builder.fsub(shifted, magic)
        rest = _multiply_add(builder, power, _constant(_VECTOR, -_LN2[0]), x)
        rest = _multiply_add(builder, power, _constant(_VECTOR, -_LN2[1]), rest)
        value = _constant(_VECTOR, _POLYNOMIAL[0])
        for coefficient in _POLYNOMIAL[1:]:
            value = _multiply_add(builder, value, rest, _constant(_VECTOR, coefficient))
        value = _multiply_add(builder, value, builder.fmul(rest, rest), builder.fadd(rest, one))
        exponent = builder.shl(builder.bitcast(shifted, _WHOLE), _constant(_WHOLE, 23))
        scale = builder.bitcast(builder.add(exponent, _constant(_WHOLE, 127 << 23)), _VECTOR)
        inside = builder.fcmp_ordered(">", x, _constant(_VECTOR, LOWEST))
        return builder.select(inside, builder.fmul(value, scale), _constant(_VECTOR, 0.0))

    return lanes_type(lanes_type), generate
