"""What the code of an lmms-eval task reads of its rows, found in the text of its functions.

Runs in lmms-eval's environment, with the standard library alone.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from contextlib import suppress

ROWS = ("doc", "sample", "example", "row", "x", "d", "item", "entry", "record", "data")
"""What code calls a row."""
ITEMS = ("result", "res", "r")
"""What it calls that which it made of one."""
ROW = rf"\b(?:{'|'.join(ROWS)})"
READ = re.compile(rf"""{ROW}(?:\[|\.get\()\s*f?["']([\w \-/]{{1,40}})["']""")
NUMBERED = re.compile(rf"""{ROW}(?:\[|\.get\()\s*f["']([\w \-]*)\{{(\w+)\}}["']""")
TEMPLATE = re.compile(r"\{\{\s*(\w+)")
MOST_VALUES = 40


def functions_of(config):
    """Return the functions that a task names, with those of lmms-eval's tasks that they call."""
    values = [*config.values()]
    for metric in config.get("metric_list") or ():
        values += metric.values()
    waiting = [_plain(value) for value in values if callable(value)]
    found = []
    while waiting:
        one = waiting.pop(0)
        if one in found or not inspect.isfunction(one):
            continue
        found.append(one)
        source = source_of(one)
        for name, method in re.findall(r"\b(\w+)(?:\.(\w+))?\(", source):
            called = one.__globals__.get(name)
            if method:
                called = getattr(called, method, None) if called is not None else None
            called = _plain(called)
            parts = vars(called).values() if inspect.isclass(called) else [called]
            waiting += [
                part for part in parts
                if inspect.isfunction(part) and "lmms_eval/tasks" in part.__code__.co_filename
            ]  # fmt: skip
    return found


def _plain(function):
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(getattr(function, "__func__", function)) if function else function


def source_of(function):
    """Return a function's text."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError):
        return ""


def columns_of(config, functions):
    """Return the columns that a task's templates and functions name.

    Args:
        config: The task's, with its functions.
        functions: Those and what they call.
    """
    names = []
    for key in ("doc_to_target", "doc_to_visual", "doc_to_text"):
        value = config.get(key)
        if isinstance(value, str):
            names += TEMPLATE.findall(value) or ([value] if value.isidentifier() else [])
    for function in functions:
        source = source_of(function)
        names += READ.findall(source)
        if re.search(rf"ascii_uppercase.* in {ROW}", source):
            names += "ABCD"
        for start, variable in NUMBERED.findall(source):
            ends = re.findall(rf"for {variable} in range\((?:(\d+), *)?(\d+)", source)
            if re.search(rf"for {variable} in .*(ABC|upper|letter)", source):
                numbers = "ABCD"
            elif ends:
                numbers = range(int(ends[0][0] or 0), min(int(ends[0][1]), 30))
            else:
                numbers = range(1, 5)
            names += [f"{start}{number}" for number in numbers]
    return list(dict.fromkeys(names)) or ["question"]


def values_of(config, functions):
    """Return by column the values that functions compare it with, or look it up among.

    Args:
        config: The task's, with its functions.
        functions: Those and what they call.
    """
    trees = []
    for function in functions:
        try:
            trees.append((function, ast.parse(source_of(function))))
        except SyntaxError:
            continue
    given = {}  # what a function's parameters are called with: values, or columns
    for value in config.values():
        while isinstance(value, functools.partial):
            for name, one in value.keywords.items():
                given.setdefault((_plain(value).__name__, name), []).append(
                    ("values", _listed(one))
                )
            value = value.func
    metrics = [str(one.get("metric")) for one in config.get("metric_list") or ()]
    readers = [_Reader(function, tree, given, metrics) for function, tree in trees]
    for _ in range(2):  # what the first pass learns of parameters is used by the second
        for reader in readers:
            reader.visit(reader.tree)
    found = {}
    for reader in readers:
        for column, values in reader.found.items():
            known = found.setdefault(column, [])
            known += [value for value in values if value not in known]
    return {column: values[:MOST_VALUES] for column, values in found.items()}


def _listed(value):
    """Return the plain values that one is or holds."""
    if isinstance(value, (str, int)):
        return [value]
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return [one for one in value if isinstance(one, (str, int))]
    return []


class _Reader(ast.NodeVisitor):
    """Comparisons with columns in one function."""

    def __init__(self, function, tree, given, metrics):
        self.function, self.tree, self.given = function, tree, given
        self.metrics = metrics
        self.found, self.columns = {}, {}
        self.scope = dict(function.__globals__)
        with suppress(ValueError):
            self.scope.update(inspect.getclosurevars(function).nonlocals)

    def values(self, node):
        """Return the values that an expression stands for, where that is plain."""
        if isinstance(node, ast.Constant):
            return _listed(node.value)
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return [value for one in node.elts for value in self.values(one)]
        if isinstance(node, ast.Dict):
            return [value for one in node.keys if one for value in self.values(one)]
        if isinstance(node, ast.Name):
            found = [value for kind, values in self.given.get((self.name, node.id), ())
                     if kind == "values" for value in values]  # fmt: skip
            return found or _listed(self.scope.get(node.id))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return self.values(node.func.value) if node.func.attr == "keys" else []
        return []

    @property
    def name(self):
        return self.function.__name__

    def column(self, node):
        """Return the column that an expression is of."""
        for one in ast.walk(node):
            key = of = None
            if isinstance(one, ast.Subscript):
                key, of = one.slice, one.value
            elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
                key = one.args[0] if one.func.attr == "get" and one.args else None
                of = one.func.value
            is_row = isinstance(of, ast.Name) and of.id in ROWS + ITEMS
            if is_row and isinstance(key, ast.Constant) and isinstance(key.value, str):
                return key.value
            if isinstance(one, ast.Name):
                if one.id in self.columns:
                    return self.columns[one.id]
                for kind, column in self.given.get((self.name, one.id), ()):
                    if kind == "column":
                        return column
        return None

    def note(self, node, values):
        column = self.column(node)
        if column and values:
            known = self.found.setdefault(column, [])
            known += [value for value in values if value not in known]

    def visit_Assign(self, node):
        column = self.column(node.value)
        if column and isinstance(node.targets[0], ast.Name):
            self.columns[node.targets[0].id] = column
        self.generic_visit(node)

    def visit_Compare(self, node):
        sides = [node.left, *node.comparators]
        for side in sides:
            for other in sides:
                if other is not side:
                    self.note(side, self.values(other))
        self.generic_visit(node)

    def visit_Subscript(self, node):
        if isinstance(node.value, ast.Name):
            looked = self.scope.get(node.value.id)
            if isinstance(looked, dict):
                self.note(node.slice, _listed(looked))
        self.generic_visit(node)

    def visit_JoinedStr(self, node):
        """Take what makes a metric's name of a text with a column in it."""
        holes = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        if len(holes) == 1:
            texts = (
                re.escape(part.value) if isinstance(part, ast.Constant) else "(.+)"
                for part in node.values
            )
            pattern = re.compile("".join(texts))
            found = (pattern.fullmatch(name) for name in self.metrics)
            self.note(holes[0].value, [match[1] for match in found if match and match[1]])
        self.generic_visit(node)

    def visit_Dict(self, node):
        for key in node.keys:
            if isinstance(key, (ast.Name, ast.Subscript)):
                self.note(key, self.metrics)
        self.generic_visit(node)

    def visit_Call(self, node):
        named = node.func
        if isinstance(named, ast.Attribute):
            if named.attr in ("startswith", "endswith") and node.args:
                self.note(named.value, self.values(node.args[0]))
            if named.attr == "get" and node.args and isinstance(named.value, ast.Name):
                looked = self.scope.get(named.value.id)
                if isinstance(looked, dict):
                    self.note(node.args[0], _listed(looked))
        called = _plain(self.scope.get(named.id)) if isinstance(named, ast.Name) else None
        if inspect.isfunction(called):
            names = called.__code__.co_varnames[: called.__code__.co_argcount]
            pairs = [*zip(names, node.args), *((one.arg, one.value) for one in node.keywords)]  # noqa: B905
            for name, value in pairs:
                values, column = self.values(value), self.column(value)
                known = self.given.setdefault((called.__name__, name), [])
                for new in (("values", values), ("column", column)):
                    if new[1] and new not in known:
                        known.append(new)
        self.generic_visit(node)
