"""What a terminal has to support in each of the two models, by the code that it runs.

A mechanism is there where the module that does it is among those that a terminal imports, directly or not.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from evaluation.figures import END_TO_END, HYBRID

__all__ = ["MECHANISMS", "Code", "code_of", "lines_of"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_SOURCES = {"sipwire": "shared", "terminal": "device", "neighbour": "host", "evaluation": "tools"}
#: What only security needs, and the module that does it.
MECHANISMS = {
    "digest authentication (RFC 7616)": "sipwire.digest",
    "protected hop: HMAC-SHA-256, AES-CTR": "sipwire.hop",
    "setup keys: HKDF, HMAC-SHA-256": "sipwire.setup_keys",
    "a certificate and a private key of its own": "neighbour.agent.credential",
    "signatures: CMS SignedData, ECDSA, RSA": "neighbour.agent.cms.signed",
    "envelopes: CMS AuthEnvelopedData, ECDH, RSA, AES-GCM": "neighbour.agent.cms.enveloped",
    "ASN.1, in DER and BER": "neighbour.agent.cms.ber",
    "certificate paths (RFC 5280)": "neighbour.agent.path",
    "lists of revoked certificates": "neighbour.agent.revocation",
    "names in certificates (RFC 5922)": "neighbour.agent.names",
    "multipart MIME": "neighbour.agent.mime",
    "signed headers (RFC 3893)": "neighbour.agent.aib",
    "replays, by a clock and a memory": "neighbour.agent.freshness",
}
_STARTS = {END_TO_END: "evaluation.useragent", HYBRID: "terminal.app"}


@dataclass(frozen=True)
class Code:
    """The code of a terminal.

    Attributes:
        modules: of this project, by name.
        needs: modules of others.
    """

    modules: frozenset[str]
    needs: frozenset[str]


def lines_of(name: str) -> int:
    """Lines of code of a module of this project, without empty ones and comments."""
    path = _path(name)
    assert path is not None, name
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def _path(name: str) -> Path | None:
    """The file of a module of this project, None where there is no such module."""
    package, *rest = name.split(".")
    if package not in _SOURCES:
        return None
    base = _ROOT / _SOURCES[package] / package
    for path in (base.joinpath(*rest).with_suffix(".py"), base.joinpath(*rest, "__init__.py")):
        if path.is_file():
            return path
    return None


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imports(name: str, path: Path) -> set[str]:
    """The modules that one imports when it runs; those that are loaded on demand are named in strings."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        if _is_for_types(node):
            continue
        left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{one.name}" for one in node.names if _path(f"{base}.{one.name}") is not None)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("terminal.") and _path(str(node.value)):
            found.add(str(node.value))
    return found


def code_of(model: str) -> Code:
    """The code of a terminal in a model: of its user agent, or of Wisp's terminal without its board."""
    modules: set[str] = set()
    needs: set[str] = set()
    left = [_STARTS[model]]
    while left:
        name = left.pop()
        path = _path(name)
        if path is None:
            needs.add(name.partition(".")[0])
        elif name not in modules:
            modules.add(name)
            left += _imports(name, path)
    return Code(frozenset(modules), frozenset(needs))
