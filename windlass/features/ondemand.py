"""On-demand transformations: one piece of Python, run over training's rows and over a request's.

Training and the server do not import the function: both make it from the bytes of its source file, here, so that what
was trained with is what serves. That file travels in the serving bundle, which is why it may import nothing of the
project's. The runtime loads this module, so it imports nothing heavy either.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from windlass.errors import UsageError, WindlassError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from windlass.contract import Transformation

PACKAGES = frozenset(sys.stdlib_module_names) | {"numpy"}
CHECKED_ROWS = 100


@dataclass(frozen=True)
class Code:
    """A transformation as it lies in a serving bundle.

    Attributes:
        file: its source file's name there.
        content: that file's bytes.
    """

    name: str
    file: str
    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    content: bytes

    def entry(self) -> dict[str, Any]:
        """Its entry in `serving.json`."""
        return {
            "name": self.name,
            "file": self.file,
            "function": self.function,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
        }


def code_of(transformation: Transformation) -> Code:
    """Read the source file of a workload's function.

    Raises:
        UsageError: the function is not one of the top level of a file.
    """
    function, name = transformation.function, transformation.name
    try:
        path = Path(inspect.getsourcefile(function) or "")
        content = path.read_bytes()
    except (TypeError, OSError) as error:
        raise UsageError(
            f"transformation {name!r}: its function has no source file ({error}); put it into a module"
        ) from error
    if function.__qualname__ != function.__name__ or not function.__name__.isidentifier():
        raise UsageError(
            f"transformation {name!r}: {function.__qualname__} is not a function of the top level of {path}; "
            "define it there by `def`"
        )
    return Code(name, f"{name}.py", function.__name__, transformation.inputs, transformation.outputs, content)


def code_in(entry: Mapping[str, Any], folder: Path) -> Code:
    """Read one from its entry in the `serving.json` of a bundle's folder."""
    return Code(
        entry["name"],
        entry["file"],
        entry["function"],
        tuple(entry["inputs"]),
        tuple(entry["outputs"]),
        (folder / entry["file"]).read_bytes(),
    )


def append(code: Sequence[Code], names: Sequence[str], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append to training's rows what transformations make of them.

    Args:
        names: of the columns of `given`, float64 [N, len(names)].

    Returns:
        float64 [N, len(names) + number of outputs], outputs in their order.

    Raises:
        WindlassError: a transformation failed, or does not treat each row by itself.
    """
    import numpy as np

    if not code:
        return given
    columns = {name: given[:, i].tolist() for i, name in enumerate(names)}
    made: list[list[float]] = []
    for transformation in map(OnDemand, code):
        transformation.hold_by_row(columns)
        made += transformation.apply(columns).values()
    return np.column_stack([given, *(np.asarray(column, dtype=np.float64) for column in made)])


class OnDemand:
    """A transformation that can be applied.

    Args:
        code: executed here, in a module of its own.

    Raises:
        UsageError: the source imports what a bundle does not carry, cannot be executed, or has no such function.
    """

    def __init__(self, code: Code) -> None:
        self.name = code.name
        self.outputs = code.outputs
        self._inputs = code.inputs
        self._function = _load(code)

    def apply(self, columns: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Return the outputs for all rows of `columns`, which holds more than the inputs perhaps; NaN is missing.

        Raises:
            WindlassError: the function failed, or gave something else than its outputs with a number for each row.
        """
        given = {name: list(columns[name]) for name in self._inputs}
        rows = len(next(iter(columns.values()), ()))
        try:
            made = self._function(given)
        except Exception as error:
            raise self._failed(f"failed: {type(error).__name__}: {error}") from error
        if not isinstance(made, Mapping) or set(made) != set(self.outputs):
            names = sorted(made) if isinstance(made, Mapping) else type(made).__name__
            raise self._failed(f"gave {names}, expected the columns {list(self.outputs)}")
        return {name: self._column(name, made[name], rows) for name in self.outputs}

    def hold_by_row(self, columns: Mapping[str, Sequence[float]]) -> None:
        """Compare up to `CHECKED_ROWS` rows at once with the same rows one by one.

        Raises:
            WindlassError: a row's outputs depend on the rows beside it, which in a server are other callers'.
        """
        some = {name: values[:CHECKED_ROWS] for name, values in columns.items()}
        together = self.apply(some)
        for row in range(len(next(iter(some.values()), ()))):
            alone = self.apply({name: values[row : row + 1] for name, values in some.items()})
            for name in self.outputs:
                one, among = alone[name][0], together[name][row]
                if one != among and not (math.isnan(one) and math.isnan(among)):
                    raise self._failed(
                        f"gives {one} for {name!r} of row {row} alone and {among} among others; "
                        "it must treat each row by itself"
                    )

    def _column(self, name: str, values: Any, rows: int) -> list[float]:
        try:
            column = [math.nan if value is None else float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise self._failed(f"gave for {name!r} what is no list of numbers: {error}") from error
        if len(column) != rows:
            raise self._failed(f"gave {len(column)} values of {name!r} for {rows} rows")
        return column

    def _failed(self, problem: str) -> WindlassError:
        return WindlassError(
            f"transformation {self.name!r} {problem}; correct its function {self._function.__name__}"
        )


def _load(code: Code) -> Callable[[dict[str, list[float]]], Any]:
    def refused(problem: str) -> UsageError:
        return UsageError(f"transformation {code.name!r}: {code.file} {problem}")

    try:
        tree = ast.parse(code.content, code.file)
    except (SyntaxError, ValueError) as error:
        raise refused(f"is no Python: {error}; correct it") from error
    for node in ast.walk(tree):
        for name in _imported(node):
            if name.partition(".")[0] not in PACKAGES:
                raise refused(
                    f"line {getattr(node, 'lineno', 0)} imports {name!r}, which a server does not have; "
                    "use the standard library and numpy, or move what is needed into the file"
                )
    module = ModuleType(f"windlass_transformation_{code.name}")
    try:
        exec(compile(tree, code.file, "exec"), module.__dict__)  # noqa: S102 - verified bytes of the bundle
    except Exception as error:
        raise refused(f"cannot be executed: {type(error).__name__}: {error}; correct it") from error
    function = getattr(module, code.function, None)
    if not inspect.isfunction(function):
        raise refused(f"has no function {code.function!r}; name one that it defines")
    return function


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []
