"""Functions compiled to machine code by numba, so that a loop over pixels costs what its arithmetic costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile function on its first call for each combination of argument types; free of the GIL while it runs.

    The machine code is kept beside the source, else in the user's cache folder, else (where neither can be written)
    it is compiled anew in each process. There is no fastmath: additions keep their order, so the same input gives the
    same bytes. Division by zero follows IEEE 754, as in numpy.

    The cache notices a change of the file a function stands in and of no other: compiled functions call compiled
    functions of their own file only.
    """
    try:
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # numba's answer where no cache folder can be written
        return cast(Function, njit(nogil=True, error_model="numpy")(function))
