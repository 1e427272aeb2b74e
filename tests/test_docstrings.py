"""Public functions say what they take and what they raise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "adem_bench"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_cards" not in path.parts)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public_functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods whose name, and whose classes' names, are public."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef) and not inner.name.startswith("_"):
            yield from public_functions(inner)
        is_public = isinstance(inner, FUNCTIONS) and not inner.name.startswith("_")
        if is_public or getattr(inner, "name", "") == "__init__":
            yield inner


def is_command(function: ast.FunctionDef) -> bool:
    """Whether a docstring is the help text of a command."""
    return any("command" in ast.unparse(each) for each in function.decorator_list)


def wanting(function: ast.FunctionDef) -> list[str]:
    text = ast.get_docstring(function) or ""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
    own = [n for statement in function.body for n in outside_of_functions(statement)]
    raises = any(isinstance(n, ast.Raise) and n.exc is not None for n in own)
    says = {
        "Args": len(names) < 3 or "Args:" in text or "rguments" in text,
        "Raises": not raises or "Raises:" in text or "rrors " in text,
    }
    return [section for section, there in says.items() if not there]


def outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, FUNCTIONS):
        return
    yield node
    for inner in ast.iter_child_nodes(node):
        yield from outside_of_functions(inner)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arguments_and_errors_are_described(path):
    functions = public_functions(ast.parse(path.read_text(encoding="utf-8")))
    missing = {f.name: wanting(f) for f in functions if not is_command(f) and wanting(f)}
    assert not missing


def test_a_function_that_says_too_little_is_found():
    code = 'def f(a, b, c):\n    """Do it."""\n    raise ValueError(a)\n'
    (function,) = public_functions(ast.parse(code))
    assert wanting(function) == ["Args", "Raises"]
