"""Names in the image: short ones, the same few again and again, for whatever nothing outside sees."""

import ast
import builtins
import hashlib
import io
import itertools
import socket
import string
from collections.abc import Iterator
from keyword import iskeyword
from typing import NamedTuple

from ..sources import FILES, NATIVE, LinkError, exists, module_path
from .modules import Module, bound_names

__all__ = [
    "Names",
    "Part",
    "is_private",
    "name_attributes",
    "name_globals",
    "name_private_attributes",
    "rename",
    "shorten",
]

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


class Part:
    """A module of the image: its name, what is linked into it, its statements, and imports that they may need."""

    def __init__(self, name: str, modules: list[Module]) -> None:
        self.name = name
        self.modules = modules
        self.body: list[ast.stmt] = []
        self.imports: dict[str, ast.stmt] = {}


def name_globals(
    parts: list[Part], kept: dict[tuple[str, str], str]
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


def name_attributes(modules: list[Module]) -> dict[str, str]:
    """Short names for the attributes and methods that the linked classes have and nothing else has.

    A name may be that of several classes, and means the same new one everywhere, since nobody knows here which class an
    object is of. Names that no class has together become the same one, so that few are needed. What an object of
    somebody else's may have, what stays apart knows, and what is ever written as a string keeps its name. So does what
    no class gives its own objects; where one does, nobody may give it to an object of another.
    """
    classes = _attributes_of_classes(modules)
    foreign = {name for kind in _FOREIGN for name in dir(kind)} | _FOREIGN_NAMES
    apart = [module_path(name) for name in (*FILES, NATIVE) if exists(name)]
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


def _attributes_of_classes(modules: list[Module]) -> list[set[str]]:
    """The names that the objects of each class have, with those of the classes it is made of."""
    found: dict[tuple[str, str], set[str]] = {}
    for module in modules:
        for node in module.tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            names = bound_names(node.body)
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


def name_private_attributes(modules: list[Module]) -> dict[str, dict[str, str]]:
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


class Names(NamedTuple):
    """What is called anew in the whole image.

    Attributes:
        known: the new names by (module, name), of `name_globals`.
        pool: short names for private attributes.
        keywords: argument names that some call uses, and which stay.
        public: the new names of attributes, of `name_attributes`.
    """

    known: dict[tuple[str, str], str]
    pool: list[str]
    keywords: set[str]
    public: dict[str, str]


def rename(module: Module, names: Names, attributes: dict[str, str]) -> list[ast.stmt]:
    """Give every name of one module its name in the image.

    Args:
        module: it is changed.
        names: the new ones.
        attributes: the module's table of `name_private_attributes`.

    Returns:
        Its statements.

    Raises:
        LinkError: it has something that is not understood.
    """
    tree: ast.Module = _Rename(module, names, attributes).visit(module.tree)
    return tree.body


class _Rename(ast.NodeTransformer):
    """Gives every name of one module its name in the image."""

    def __init__(self, module: Module, names: Names, attributes: dict[str, str]) -> None:
        self._module = module
        self._names = names
        self._attributes = attributes  # private ones, which classes of other modules have that inherit them
        self._arguments: list[dict[str, str]] = []
        self._scopes: list[set[str]] = []  # of functions; a class body's is None-like and skipped

    def _global(self, name: str) -> str:
        linked = self._module.linked.get(name)
        if linked is not None:
            return self._names.known[linked] if linked[1] else name
        return self._names.known.get((self._module.name, name), name)

    def _attribute(self, name: str) -> str:
        if not is_private(name):
            return self._names.public.get(name, name)
        if name not in self._attributes:
            self._attributes[name] = self._names.pool[len(self._attributes)]
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
                return ast.copy_location(ast.Name(self._names.known[(linked[0], node.attr)], node.ctx), node)
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
        bound = _arguments(node.args) | bound_names(node.body) - _imported(node)
        if any(is_private(name) for name in bound):
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
            if argument.arg not in self._names.keywords and argument.arg not in ("self", "cls"):
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


def is_private(name: str) -> bool:
    """Whether nothing outside its module, or class, knows a name."""
    return name.startswith("_") and not name.startswith("__") and name != "_"


def shorten(tree: ast.Module) -> dict[str, str]:
    """Give short names to what is private in a module that is not linked: in ``tree``, in place.

    Returns:
        The old names by the new ones.

    Raises:
        LinkError: a name may be known elsewhere.
    """
    own = {name for name in bound_names(tree.body) if is_private(name)}
    words = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if not all(isinstance(base, ast.Name) and hasattr(builtins, base.id) for base in node.bases):
                raise LinkError(f"line {node.lineno}: a class that stays apart inherits what is private elsewhere")
            own |= {name for name in bound_names(node.body) if is_private(name)}
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
            if isinstance(node.ctx, ast.Store) and is_private(node.attr):
                own.add(node.attr)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.arg):
            words.add(node.arg)
    free = (name for name in _short_names("_", string.ascii_lowercase) if name not in words)
    names = dict(zip(sorted(own), free, strict=False))
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            node.asname = names.get(node.asname or node.name, node.asname)
            continue
        for field in ("id", "attr", "name", "arg"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                setattr(node, field, names.get(word, word))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in own:
            raise LinkError(f"line {node.lineno}: {node.value!r} is private, and named by a string")
    return {new: old for old, new in names.items()}


def _short_names(prefix: str, letters: str) -> Iterator[str]:
    """_a, _b, ... _z, _aa, ..."""
    for length in itertools.count(1):
        for parts in itertools.product(letters, repeat=length):
            yield prefix + "".join(parts)


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
