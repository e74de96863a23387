"""The precision of inference (standard library only)."""

from enum import StrEnum


class Precision(StrEnum):
    """The numbers that an engine computes with: 32-bit or 16-bit (bfloat16) floats, or 8-bit integers."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
