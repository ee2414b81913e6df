"""The public surface: what ``__all__`` says is there, has words, and is all that other packages use."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = {"shared": "sipwire", "device": "terminal", "host": "neighbour"}
MODULES = sorted(path for folder, name in PACKAGES.items() for path in (ROOT / folder / name).rglob("*.py"))
# viper.py offers what plain.py does and describes; migrations are Alembic's.
MODULES = [path for path in MODULES if path.name != "viper.py" and "migrations" not in path.parts]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names = ast.literal_eval(node.value)
            assert isinstance(names, list)
            return names
    return []


def types(tree: ast.Module) -> set[str]:
    """Names that only the type checker sees, which ``__all__`` can't list."""
    return {
        name
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for name in defined(node)
    }


def defined(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "every module says what it is"
    names = exported(tree)
    assert len(names) == len(set(names))
    assert set(names) <= defined(tree)
    for node in tree.body:
        is_definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        # A decorated function is known to its decorator: a command of the command line.
        if is_definition and not node.decorator_list and not node.name.startswith("_"):
            assert node.name in names, f"{node.name} is public: list it, or give it an underscore"
            assert ast.get_docstring(node), node.name


def test_packages_use_what_is_exported() -> None:
    """Nothing imports what a module does not offer."""
    trees = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    offers = {name: {*exported(tree), *types(tree)} for name, tree in trees.items()}
    checked = 0
    missing = []
    for folder in ("shared", "device", "host", "tools", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and not node.level and node.module in offers:
                    for alias in node.names:
                        if f"{node.module}.{alias.name}" not in offers:
                            checked += 1
                            if alias.name not in offers[node.module] and not alias.name.startswith("__"):
                                missing.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{alias.name}")
    assert checked > 100
    assert not missing
