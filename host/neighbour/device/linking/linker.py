"""Links modules into a few.

Every module-level name is resolved here and not on the device, equal constants are kept once, numbers are put in their
places, what only the host uses is left out, and names that nothing outside can see become short ones. What the code
does is left alone.
"""

import ast
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..sources import ENTRY, FILES, KEPT, LinkError, exists, module_path
from .modules import Module, bound_names, load
from .naming import Names, Part, is_private, name_attributes, name_globals, name_private_attributes, rename
from .reach import leave_out

__all__ = ["Linked", "link"]

_INTERNED = 10  # characters of the longest string that MicroPython's compiler interns
_TABLE = "_0"  # the short strings of a module that is loaded on demand


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


def link(
    entry: str = ENTRY,
    kept: tuple[str, ...] = KEPT,
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
    groups = load(entry, on_demand, needs)
    modules = [module for group in groups for module in group]
    wanted = {(entry, name) for name in kept or groups[0][-1].globals}
    for group in groups[1:]:
        wanted |= {(group[-1].name, name) for name in group[-1].globals if not name.startswith("_")}
    leave_out(groups, wanted, needs)
    divided = [Part(f"{prefix}{i + 1}", group) for i, group in enumerate(_divide(groups[0], parts))]
    divided += [Part(name, group) for name, group in zip(on_demand, groups[1:], strict=True)]
    kept_names = {(entry, name): name for name in kept}
    for group in groups[1:]:
        kept_names.update({(group[-1].name, name): name for name in group[-1].globals if not name.startswith("_")})
    names, shared, pool = name_globals(divided, kept_names)
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
    new = Names(names, pool, keywords, name_attributes(modules))
    private = name_private_attributes(modules)
    for old, short in new.public.items():
        legend[f".{short}"] = f"{legend[f'.{short}']},{old}" if f".{short}" in legend else f".{old}"
    for part in divided:
        for module in part.modules:
            for one in rename(module, new, private[module.name]):
                if isinstance(one, ast.Import | ast.ImportFrom):
                    for alias in one.names:
                        part.imports[alias.asname or alias.name] = type(one)(**{**vars(one), "names": [alias]})
                elif not isinstance(one, ast.Pass):
                    part.body.append(one)
    _keep_out_strings(divided[:parts], divided[parts:])
    return Linked({name: _source(body) for name, body in _join(divided, shared)}, legend)


def _divide(modules: list[Module], parts: int) -> list[list[Module]]:
    """Divide modules, which stay whole and in order, into parts of about the same size."""
    sizes = [len(ast.unparse(module.tree)) for module in modules]
    divided: list[list[Module]] = [[] for _ in range(parts)]
    size = 0
    for module, own in zip(modules, sizes, strict=True):
        divided[(size + own // 2) * parts // sum(sizes)].append(module)
        size += own
    return divided


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


def _keep_out_strings(program: "list[Part]", on_demand: "list[Part]") -> None:
    """Let what is loaded on demand have short strings that nobody else has as pieces of a long one.

    MicroPython interns short strings, for good: those of a module would stay when it is gone, and make the table of
    all names, which doubles where it is full, larger.
    """
    apart = [ast.parse(module_path(name).read_text(encoding="utf-8")) for name in FILES if exists(name)]
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


def _join(parts: list[Part], shared: set[str]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Let each part import what it needs: its name, and its statements with these imports."""
    where: dict[str, str] = {}
    consts: dict[str, ast.stmt] = {}
    for part in parts:
        bound = bound_names(part.body)
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
                consts.update(dict.fromkeys(bound_names([statement]), statement))
        where.update(dict.fromkeys(bound & (shared | {"const"}), part.name))


def _is_const(statement: ast.stmt) -> bool:
    """Whether it is ``_A = const(7)``, of which nothing is left but the number wherever the name stands."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) == "const"
        and is_private(ast.unparse(statement.targets[0]))
    )


def _source(body: list[ast.stmt]) -> str:
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + "\n"
