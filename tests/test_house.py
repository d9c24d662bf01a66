"""The rules of the house: who imports whom, what is light, and how the code looks."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from tests.helpers import REPOSITORY

PACKAGE = REPOSITORY / "admin_fairseq"
HEAVY = {"torch", "fairseq", "fairseq_cli", "hydra", "omegaconf"}

# room -> its modules; the first pattern that fits counts
ROOMS = {
    "root": ["", "moved"],
    "command": ["cli", "__main__"],
    "light": [
        *[
            "closed_forms",
            "errors",
            "files",
            "init_types",
            "literal",
            "logs",
            "needs",
            "plots",
            "program",
            "sites",
            "user_dir",
            "version",
        ],
        *["profile", "profile.checks", "profile.command", "profile.data", "profile.file"],
        *["profile.shape", "profile.text", "profile.two_columns", "deploy"],
    ],
    "experiments": ["experiments", "experiments.*"],
    "equations": [
        "bfloat16",
        "fused_attention",
        "fused_dropout",
        "fused_loss",
        "residual",
        "starting",
        "weights",
    ],
    "flags": ["adam", "multi_tensor", "options", "optim", "rules"],
    "model": ["fused_layers", "layers", "model", "stacks"],
    "profile": ["profile.*"],
    "checkpoints": ["checkpoints", "checkpoints.*"],
    "deploy": ["deploy.*"],
    "analysis": ["analysis", "analysis.*"],
    "compat": ["compat", "compat.*"],
    "training": ["cpu_amp", "criterion", "half_copies", "preemption", "trace", "training"],
}
# room -> the rooms, beside itself and the light one, that it may import from
MAY_IMPORT = {
    "root": [],
    "command": ["experiments", "root", "analysis"],
    "light": [],
    "experiments": [],
    "equations": ["root"],  # for names that moved, until they go
    "flags": [],
    "model": ["equations", "flags"],
    "profile": ["equations", "flags"],
    "checkpoints": ["equations", "flags", "model"],
    "deploy": ["equations", "flags", "model", "checkpoints"],
    "analysis": ["equations", "flags", "profile", "checkpoints"],
    "compat": [],
    "training": ["equations", "flags", "model", "profile", "compat"],
}


def name_of(path):
    """Return a module's name below the package, and whether it is a folder's ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    is_folder = parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_folder else parts), is_folder


MODULES = {name_of(path)[0]: path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module):
    for room, patterns in ROOMS.items():
        if any(fnmatch(module, pattern) for pattern in patterns):
            return room
    raise AssertionError(f"{module} is in no room: add it to ROOMS")


def imports(module, nested):
    """Return (our modules, others' packages) that a module imports; ``nested``: in functions too.

    What is imported for type checkers alone does not count.
    """
    name, is_folder = name_of(MODULES[module])
    here = name.split(".") if name else []
    if not is_folder:
        here.pop()
    ours, others = set(), set()
    for node in statements(ast.parse(MODULES[module].read_text()), nested):
        if isinstance(node, ast.Import):
            others.update(alias.name.split(".")[0] for alias in node.names)
        elif node.level == 0:
            others.add(node.module.split(".")[0])
        else:
            base = here[: len(here) - node.level + 1]
            target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{target}.{alias.name}".strip(".")
                ours.add(inner if inner in MODULES else target)
    return ours - {module}, others


def statements(node, nested):
    """Yield the import statements below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif nested or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(child, nested)


@pytest.mark.parametrize("module", MODULES)
def test_who_imports_whom(module):
    room = room_of(module)
    allowed = {room, "light", *MAY_IMPORT[room]}
    ours, others = imports(module, nested=room == "experiments")
    strange = {other: room_of(other) for other in ours if room_of(other) not in allowed}
    assert not strange, f"{module} ({room}) imports {strange}"
    if room in ("root", "command", "light", "experiments"):
        assert not others & HEAVY, f"{module} is light, and imports {others & HEAVY}"


def test_no_circle():
    graph = {module: imports(module, nested=False)[0] for module in MODULES}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for other in graph[module]:
                if other != "":  # the package itself is being imported whenever its modules are
                    visit(other)
            done.add(path.pop())

    for module in graph:
        visit(module)


@pytest.mark.subprocess
def test_light_modules_load_neither_torch_nor_fairseq():
    """In the process of our own command, where nothing is registered."""
    names = [module for module in MODULES if room_of(module) in ("root", "command", "light")]
    names += [module for module in MODULES if room_of(module) == "experiments"]
    names.remove("__main__")  # it is the command
    program = "import importlib, sys; sys.argv = ['admin-fairseq']\n"
    program += f"for name in {names!r}:\n"
    program += "    importlib.import_module(('admin_fairseq.' + name).rstrip('.'))\n"
    program += f"found = {HEAVY!r} & set(sys.modules)\nassert not found, found\n"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_modules_with_flags_keep_their_types():
    """fairseq reads the types of a FairseqDataclass: as strings they break every command."""
    found = 0
    for path in MODULES.values():
        tree = ast.parse(path.read_text())
        bases = [
            base for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases
        ]
        if any(ast.unparse(base) == "FairseqDataclass" for base in bases):
            found += 1
            froms = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
            assert "__future__" not in froms, path
    assert found == 2


def tracked_texts():
    words = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "*.py", "*.sh", "*.slurm", ".ci"]
    names = subprocess.run(words, capture_output=True, text=True).stdout.split("\0")
    if names == [""]:
        pytest.skip("not a clone")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            yield name, (REPOSITORY / name).read_text()


def test_no_hack_of_the_import_path():
    """Everything installs with the package: nothing adds folders to Python's path."""
    hack = re.compile(r"sys\.path\.(insert|append|extend)\(|PYTHON" + "PATH=")
    allowed = {"scripts/measure_house.py"}  # it counts them
    found = [name for name, text in tracked_texts() if hack.search(text)]
    assert set(found) <= allowed | {"tests/test_house.py"}


def test_small_modules():
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES.values()}
    assert not {str(path): length for path, length in lengths.items() if length > 300}


def test_tests_that_start_commands_say_so():
    """So that ``-m "not subprocess"`` is a quick run."""
    starts = re.compile(
        r"subprocess\.(run|Popen|check_)|\bwarm\.run\(|\b(run|train)\(\s*(\*|\"|data)"
    )
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        if starts.search(path.read_text()) and "mark.subprocess" not in path.read_text()
    ]
    assert not silent
