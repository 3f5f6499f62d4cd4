"""Mutants of the engine's source, and a warm process that kills them with the unit tests.

A mutant is one small change of the syntax tree: another comparison, constant, operator, a return of nothing, a
statement or a field of `replace` left out. Texts, annotations and messages are left alone, since no test should hold
them to the letter. Kept libraries do the same with a process, an import and a test session for every mutant
(mutmut, cosmic-ray), which takes hours here; so one process imports what is heavy and stays the same, and each mutant
is a fork of it that imports the engine with the change, runs the tests that concern the module, nearest first, and
stops at the first that fails.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "serving" / "release"
TESTS = ROOT / "tests" / "unit" / "serving" / "release"

#: Seconds that one mutant's tests may take before it counts as killed (it loops).
LIMIT_S = 120.0

#: The place of no change at all.
UNCHANGED = -1

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: number `place` of the changes of a module."""

    module: str
    place: int
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}: {self.what}"


@dataclass(frozen=True)
class Change:
    """How a copy of the tree is changed: the node at a path of fields, replaced by what `make` gives."""

    line: int
    what: str
    apply: Callable[[], None]


def modules() -> list[str]:
    """What is mutated: `next_step` with everything that decides in it, and the statistics."""
    names = ["engine", "look", "checks", "counts", "effects"]
    names += [f"strategies/{path.stem}" for path in sorted((PACKAGE / "strategies").glob("[a-z]*.py"))]
    names += [f"statistics/{path.stem}" for path in sorted((PACKAGE / "statistics").glob("[a-z]*.py"))]
    return [name for name in names if (PACKAGE / f"{name}.py").exists()]


def mutants_of(module: str) -> list[Mutant]:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    return [Mutant(module, place, change.line, change.what) for place, change in enumerate(_changes(tree))]


def source_of(mutant: Mutant) -> ast.Module:
    """The mutant's syntax tree."""
    tree = ast.parse((PACKAGE / f"{mutant.module}.py").read_text())
    for place, change in enumerate(_changes(tree)):
        if place == mutant.place:
            change.apply()
            break
    return ast.fix_missing_locations(tree)


def sample(count: int, seed: int) -> list[Mutant]:
    """Some of all mutants, each module in proportion; all where `count` is larger."""
    everything = [mutant for module in modules() for mutant in mutants_of(module)]
    if count >= len(everything):
        return everything
    chosen = random.Random(seed).sample(range(len(everything)), count)
    return [everything[place] for place in sorted(chosen)]


# --- changes


def _changes(tree: ast.Module) -> Iterator[Change]:
    for body in _bodies(tree):
        for place, statement in enumerate(body):
            yield from _of_statement(body, place, statement)
    for node in _nodes(tree):
        yield from _of_expression(node)


def _of_statement(body: list[ast.stmt], place: int, node: ast.stmt) -> Iterator[Change]:
    def drop() -> None:
        body[place] = ast.copy_location(ast.Pass(), node)

    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if isinstance(node, ast.AugAssign) or is_call:
        yield Change(node.lineno, f"without `{ast.unparse(node)[:60]}`", drop)
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        returned = node

        def nothing() -> None:
            returned.value = ast.copy_location(ast.Constant(None), returned)

        yield Change(node.lineno, "returns None", nothing)


def _of_expression(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS.get(type(operator), ()):
                what = f"{type(operator).__name__} -> {other.__name__} in `{ast.unparse(node)[:60]}`"
                yield Change(node.lineno, what, _setter(node.ops, place, other()))
    elif isinstance(node, ast.BoolOp):
        other_bool = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield Change(
            node.lineno, f"and <-> or in `{ast.unparse(node)[:60]}`", lambda: setattr(node, "op", other_bool)
        )
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node):
        changed = _OPERATORS[type(node.op)]()
        what = f"{type(node.op).__name__} -> {type(changed).__name__} in `{ast.unparse(node)[:60]}`"
        yield Change(node.lineno, what, lambda: setattr(node, "op", changed))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        what = f"`{ast.unparse(node)[:60]}` without not"
        twice = ast.UnaryOp(ast.Not(), node.operand)
        yield Change(node.lineno, what, lambda: setattr(node, "operand", twice))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        other = (
            not value
            if isinstance(value, bool)
            else value + 1
            if isinstance(value, int)
            else value * 1.5 + 0.01
        )
        yield Change(node.lineno, f"{value} -> {other}", lambda: setattr(node, "value", other))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "replace":
        for place, keyword in enumerate(node.keywords):
            what = f"replace without {keyword.arg}"
            yield Change(node.lineno, what, lambda place=place: node.keywords.pop(place))  # type: ignore[misc]


def _setter(ops: list[ast.cmpop], place: int, other: ast.cmpop) -> Callable[[], None]:
    def change() -> None:
        ops[place] = other

    return change


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            found = getattr(node, name, None)
            if isinstance(found, list) and not isinstance(node, ast.Module):
                yield found


_UNTOUCHED = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every expression that means something when it runs: no annotation, message, decorator or text."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, _UNTOUCHED):
                yield child
                yield from _nodes(child)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )


# --- killing them


def tests_of(module: str) -> list[Path]:
    """The test files that concern a module, nearest first."""
    folder, _, name = module.rpartition("/")
    near = [
        f"{folder}/test_{name}.py" if folder == "statistics" else f"test_{name}.py",
        "test_engine_pinned.py",
    ]
    usual = [
        "test_engine.py",
        "test_checks.py",
        "people/test_outcome.py",
        "test_replay.py",
        *sorted(p.name for p in TESTS.glob("test_engine_*.py")),
    ]
    usual += [f"test_{strategy}.py" for strategy in ("bandit", "experiment", "shadow", "blue_green")]
    if folder == "statistics":
        usual += [
            f"statistics/test_{other}.py"
            for other in ("comparison", "tail", "quantiles", "planning", "means")
        ]
    usual += ["simulation/test_boundaries.py"]
    found = [TESTS / file for file in dict.fromkeys([*near, *usual])]
    return [path for path in found if path.exists()]


def survivors(
    mutants: Sequence[Mutant], workers: int, progress: Callable[[int, int, str], None]
) -> list[Mutant]:
    """Those that no test kills, in their order.

    Raises:
        RuntimeError: a test fails without any change.
    """
    concerned = dict.fromkeys(path for mutant in mutants for path in tests_of(mutant.module))
    if not _survivors([Mutant("engine", UNCHANGED, 0, "no change")], 1, lambda *line: None, list(concerned)):
        raise RuntimeError("a test fails without a mutant and would kill whatever comes; mend it first")
    return _survivors(mutants, workers, progress)


def _survivors(
    mutants: Sequence[Mutant],
    workers: int,
    progress: Callable[[int, int, str], None],
    tests: Sequence[Path] | None = None,
) -> list[Mutant]:
    import hypothesis  # noqa: F401 - what is heavy and stays the same, once
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import yaml  # noqa: F401

    loaded = [name for name in sys.modules if name.startswith("serving.release.")]
    if any(not name.startswith("serving.release.simulation") for name in loaded):
        raise RuntimeError("the engine is imported already, its mutants would not be; use a fresh process")
    waiting, running, alive, done = list(enumerate(mutants)), {}, [], 0
    while waiting or running:
        while waiting and len(running) < workers:
            number, mutant = waiting.pop(0)
            running[_fork(mutant, tests)] = (number, mutant, time.monotonic() + LIMIT_S)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            for late, (_, _, deadline) in running.items():
                if time.monotonic() > deadline:
                    os.kill(late, signal.SIGKILL)
            time.sleep(0.02)
            continue
        number, mutant, _ = running.pop(pid)
        done += 1
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            alive.append((number, mutant))
            if mutant.place != UNCHANGED:
                print(f"survives: {mutant}", file=sys.stderr)
        progress(done, len(mutants), f"{len(alive)} survive")
    return [mutant for _, mutant in sorted(alive, key=lambda pair: pair[0])]


def _fork(mutant: Mutant, tests: Sequence[Path] | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        code = _judge(mutant, tests_of(mutant.module) if tests is None else tests)
    except BaseException:
        code = 1  # it does not even import: killed
    os._exit(code)


def _judge(mutant: Mutant, tests: Sequence[Path]) -> int:
    """0 where every test passes with the mutant."""
    import pytest

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.meta_path.insert(0, _Finder(mutant))
    os.chdir(ROOT)
    options = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--no-header"]
    return int(pytest.main([*options, *map(str, tests)]))


class _Finder:
    """Gives the mutated module where its name is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = "serving.release." + mutant.module.replace("/", ".")

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname != self._name:
            return None
        import importlib.util

        file = PACKAGE / f"{self._mutant.module}.py"
        loader = _Loader(fullname, str(file), copy.copy(self._mutant))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def _loader() -> type:
    import importlib.machinery

    class Loader(importlib.machinery.SourceFileLoader):
        def __init__(self, fullname: str, path: str, mutant: Mutant) -> None:
            super().__init__(fullname, path)
            self._mutant = mutant

        def exec_module(self, module: object) -> None:
            code = compile(source_of(self._mutant), self.path, "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102 - our own source with one change

    return Loader


_Loader = _loader()
