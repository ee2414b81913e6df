"""The modules to link: their source without what only people read, and what their imports mean."""

import ast
from collections.abc import Callable, Mapping

from ..sources import LinkError, exists, is_apart, module_path

__all__ = ["Module", "bound_names", "load", "strip", "without_docstring"]


class Module:
    """One source file on its way into the image.

    Args:
        name: the module's.
        within: what is loaded on demand and has a copy of its own of this; "" for the program.
    """

    def __init__(self, name: str, within: str = "") -> None:
        self.name = f"{within}/{name}" if within else name
        path = module_path(name)
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.tree = strip(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        # Local name: (module, name there) of what is linked; name there is "" for a module itself.
        self.linked: dict[str, tuple[str, str]] = {}
        self.globals = bound_names(self.tree.body)
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


def strip(tree: ast.Module) -> ast.Module:
    """Leave out what only people, the type checker and tests read."""

    class Strip(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.arg:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            self.generic_visit(node)
            node.returns = None
            node.body = without_docstring(node.body)
            return node

        def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
            self.generic_visit(node)
            node.body = without_docstring(node.body)
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
    tree.body = without_docstring(tree.body)
    return tree


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body without what people read; never empty."""
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body or [ast.Pass()]


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


def bound_names(body: list[ast.stmt]) -> set[str]:
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


def load(entry: str, on_demand: tuple[str, ...], needs: Mapping[str, str]) -> list[list[Module]]:
    """The modules to link, each after those that it imports: the program's, then those of each that is on demand.

    What several on demand need, and the program does not, each of them has: none may need another in memory, but for
    those in ``needs``.
    """
    groups: list[list[Module]] = []
    started: dict[str, str] = {}  # in the program, and in the group that is made
    within = ""

    def visit(name: str) -> str:
        if name not in started:
            module = Module(name, within if name != within else "")
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

    def __init__(self, module: Module, visit: "Callable[[str], str]", on_demand: tuple[str, ...]) -> None:
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
        if source.split(".")[0] not in ("sipwire", "terminal") or is_apart(source) or source in self._on_demand:
            node.module, node.level = source, 0
            self._module.outside.update(alias.asname or alias.name for alias in node.names)
            return node
        for alias in node.names:
            local = alias.asname or alias.name
            submodule = f"{source}.{alias.name}"
            if exists(submodule):
                self._module.linked[local] = (self._visit_module(submodule), "")
            else:
                self._module.linked[local] = (self._visit_module(source), alias.name)
        return None
