"""What of the modules is ever used: most of what the host alone does is left out of the image."""

import ast
from collections.abc import Mapping
from typing import TypeGuard

from ..sources import FILES, NATIVE, exists, module_path
from .modules import Module, bound_names

__all__ = ["leave_out"]


def leave_out(groups: list[list[Module]], wanted: set[tuple[str, str]], needs: Mapping[str, str]) -> None:
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
        module.globals = bound_names(body) | set(module.linked)


class _Reach:
    """What is used by what is wanted, and by what modules do when they are loaded.

    Attributes:
        names: (module, name) of functions, classes and values.
        methods: the ``id`` of methods. One is used where its name is, in code that is used: by anybody, or where it is
            of something that is loaded on demand, by that alone, and by what is only loaded while that is there: it
            gives nobody else an object of a class that others do not know.
    """

    def __init__(self, groups: list[list[Module]], wanted: set[tuple[str, str]], needs: Mapping[str, str]) -> None:
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
        self._left: list[tuple[int, Module, ast.AST]] = [
            (number, module, one)
            for number, group in enumerate(groups)
            for module in group
            for one in module.tree.body
            if not _defines(one)
        ]
        self._left += [self._statements[key] for key in wanted if key in self._statements]
        self._used = [set[str]() for _ in groups]
        self._used[0] |= _names_used_apart()
        self._classes: list[tuple[int, Module, ast.ClassDef]] = []
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

    def _take(self, number: int, module: Module, node: ast.AST) -> None:
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
    for path in [module_path(name) for name in (*FILES, NATIVE) if exists(name)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found
