"""Holds one source file against the tables of `house.py`, by its syntax tree: nothing is imported.

Belongs here: finding imports, readings of the environment and of the clock in source text. Does not belong here: the
rules themselves (`house.py`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlops_platform_tests.architecture import house

_PACKAGE = "mlops_platform"
_CLOCK_METHODS = {"now", "utcnow", "today"}
_CLOCK_FUNCTIONS = {"time", "time_ns", "localtime", "gmtime"}  # of the module `time`
_SQL_CLOCK = re.compile(r"\bcurrent_(date|time|timestamp)\b|\b(now|today|get_current_timestamp)\(\)", re.IGNORECASE)
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}


@dataclass(frozen=True)
class Import:
    """One imported name: `a.b.c` for `from a.b import c`."""

    target: str
    line: int
    at_import_time: bool
    for_types_only: bool

    @property
    def root(self) -> str:
        """The top-level package."""
        return self.target.partition(".")[0]

    @property
    def inside_house(self) -> str | None:
        """The dotted path below mlops_platform; None for other packages."""
        if self.target == "serving" or self.target.startswith("serving."):
            return self.target
        return self.target.partition(".")[2] or "__init__" if self.root == _PACKAGE else None


def part_of(module: str) -> str:
    """The row of `house.ALLOWED` a module belongs to."""
    names = module.split(".")
    if names[0] != _PACKAGE:
        return names[0]
    return names[1] if len(names) > 1 else "__init__"


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Every rule the source breaks, one readable line each.

    Args:
        source: Text of the module.
        module: Its dotted name.
        is_package: Whether it is an `__init__.py`, from which relative imports start one level lower.
    """
    tree = ast.parse(source)
    part = part_of(module)
    found = [] if ast.get_docstring(tree) else [f"{module}: opens without a docstring"]
    if part not in house.ALLOWED:
        return [*found, f"{module}: {part} has no row in house.ALLOWED"]
    package = module if is_package else module.rpartition(".")[0]
    for item in _imports(tree.body, package):
        found += [f"{module}:{item.line} {problem}" for problem in _import_problems(item, module, part)]
    if part not in house.ENVIRONMENT_PARTS:
        found += [f"{module}:{line} reads the environment" for line in _environment_reads(tree)]
    if part not in house.CLOCK_PARTS and module not in house.CLOCK_MODULES:
        found += [f"{module}:{line} reads the clock" for line in _clock_reads(tree)]
    return found


def heavy_top_imports(source: str) -> set[str]:
    """Heavy libraries that the module imports when it is imported."""
    return {item.root for item in _imports(ast.parse(source).body, "") if _is_heavy(item)}


def _import_problems(item: Import, module: str, part: str) -> Iterator[str]:
    inside = item.inside_house
    if inside is not None and inside.partition(".")[0] != part:
        if not any(inside == allowed or inside.startswith(allowed + ".") for allowed in house.ALLOWED[part]):
            yield f"{part} imports {item.target}"
        elif item.at_import_time and not item.for_types_only and inside.partition(".")[0] in house.LAZY.get(part, ()):
            yield f"{part} imports {item.target} at the top of the module"
    if (item.root == "dagster" or item.root.startswith("dagster_")) and part not in house.DAGSTER_PARTS:
        yield f"{part} imports {item.root}"
    if module.startswith(_PACKAGE) and _is_heavy(item) and (module, item.root) not in house.HEAVY_EXCEPTIONS:
        yield f"imports {item.root} at the top of the module"


def _is_heavy(item: Import) -> bool:
    return item.root in house.HEAVY and item.at_import_time and not item.for_types_only


def _imports(body: list[ast.stmt], package: str, *, top: bool = True, types: bool = False) -> Iterator[Import]:
    """Imports of every nested block; a function's body runs later, `if TYPE_CHECKING:` never."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node, package):
                yield Import(target, node.lineno, top, types)
            continue
        if isinstance(node, ast.If) and _names_type_checking(node.test):
            yield from _imports(node.body, package, top=top, types=True)
            yield from _imports(node.orelse, package, top=top, types=types)
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for call in _dynamic_imports(node):
                yield Import(call[0], call[1], top, types)
        inner_top = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for block in _blocks(node):
            yield from _imports(block, package, top=inner_top, types=types)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        yield getattr(node, field, [])
    for branch in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
        yield branch.body


def _targets(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    origin = node.module or ""
    if node.level:
        parents = package.split(".")
        base = parents[: len(parents) - node.level + 1]
        origin = ".".join([*base, origin] if origin else base)
    return [f"{origin}.{alias.name}" for alias in node.names]


def _dynamic_imports(node: ast.stmt) -> Iterator[tuple[str, int]]:
    """`importlib.import_module("…")` in a simple statement; blocks are visited by `_imports`."""
    if any(_blocks(node)):
        return
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and _last_name(call.func) in {"import_module", "__import__"} and call.args:
            argument = call.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value, call.lineno


def _names_type_checking(test: ast.expr) -> bool:
    return _last_name(test) == "TYPE_CHECKING"


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _environment_reads(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _ENVIRONMENT and _last_name(node.value) == "os":
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in _ENVIRONMENT)


def _clock_reads(tree: ast.Module) -> Iterator[int]:
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_time = _last_name(node.value) == "time" and node.attr in _CLOCK_FUNCTIONS
            if of_time or node.attr in _CLOCK_METHODS:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module == f"{_PACKAGE}.clock" and "now" in names:
                yield node.lineno
            if node.module == "time" and names & _CLOCK_FUNCTIONS:
                yield node.lineno
        elif isinstance(node, ast.Constant) and id(node) not in docstrings and _SQL_CLOCK.search(str(node.value)):
            yield node.lineno
