"""What importing the package does, in whose process, and what it offers.

Most processes here end where the plugin would be registered: a stand-in for torch says so, which
saves the seconds of importing the real one.
"""

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import traceback
import warnings
from types import SimpleNamespace

import pytest
from torch.multiprocessing.spawn import ProcessRaisedException

import admin_fairseq
from admin_fairseq import errors, moved, program
from admin_fairseq.errors import AdminError, message_of
from tests.helpers import REPOSITORY, light_seconds

STAND_IN = 'import sys; sys.exit("registers")\n'
COMMAND = "import sys\nfrom admin_fairseq.cli import main\nsys.exit(main())\n"
WORKERS = """
import multiprocessing

def work():
    import admin_fairseq
    print("light")

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        worker = multiprocessing.get_context(method).Process(target=work)
        worker.start()
        worker.join()
"""


@pytest.fixture
def place(tmp_path):
    """A folder with the package, and a torch that ends the process that imports it."""
    (tmp_path / "torch.py").write_text(STAND_IN)
    (tmp_path / "admin_fairseq").symlink_to(REPOSITORY / "admin_fairseq")
    return tmp_path


def python(folder, *words, given=""):
    """Run Python in a folder; returns its output and errors in one text."""
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return result.stdout


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "first",
    [
        "admin_fairseq",
        "admin_fairseq.experiments",
        "admin_fairseq.profile.file",
        "admin_fairseq.cli",
        "admin_fairseq.init_types",
    ],
)
def test_it_registers_whatever_is_imported_first(place, first):
    assert python(place, "-c", f"import {first}") == "registers\n"


@pytest.mark.subprocess
def test_it_registers_in_every_kind_of_process(place):
    assert python(place, "-", given="import admin_fairseq") == "registers\n"
    interactive = python(place, "-i", "-q", given="import admin_fairseq\n")
    assert "registers" in interactive
    assert python(place, "-c", "import sys; del sys.argv; import admin_fairseq") == "registers\n"
    assert python(place, "-c", "import sys; sys.argv = []; import admin_fairseq") == "registers\n"
    for name in ("mine.py", "admin-fairseq.py", "__main__.py"):
        (place / name).write_text("import admin_fairseq\n")
        assert python(place, name) == "registers\n", name


@pytest.mark.subprocess
def test_it_waits_in_our_own_command(place):
    (place / "admin-fairseq").write_text(COMMAND)
    for words in (["admin-fairseq"], ["-m", "admin_fairseq"], ["-madmin_fairseq"]):
        assert python(place, *words, "--version").startswith("admin_fairseq "), words
    profile = str(place / "none")
    assert "no such profile" in python(place, "-m", "admin_fairseq", "profile", profile)
    assert python(place, "-m", "admin_fairseq", "average", "--inputs", "a", "--output", "b") == (
        "registers\n"
    )
    (place / "admin-fairseq").write_text(WORKERS)
    assert python(place, "admin-fairseq") == "light\n" * 3


@pytest.mark.subprocess
def test_a_renamed_copy_is_a_command_of_its_own(place):
    (place / "admin_fairseq").rename(place / "other_name")
    assert python(place, "-m", "other_name", "--version").startswith("admin_fairseq ")
    assert python(place, "-c", "import other_name") == "registers\n"


LIGHT = """
import sys, time
sys.argv = ["admin-fairseq", *{words!r}]
from admin_fairseq.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {{"torch", "fairseq", "numpy", "matplotlib", "omegaconf"}} & set(sys.modules)
print("heavy:", sorted(heavy), "seconds:", time.process_time())
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["profile", "p"]])
def test_what_needs_no_torch_is_quick(tmp_path, words):
    from tests.profiles import OLDER

    (tmp_path / "admin_fairseq").symlink_to(REPOSITORY / "admin_fairseq")
    (tmp_path / "p").write_text(OLDER)
    output = python(tmp_path, "-c", LIGHT.format(words=words))
    found = re.search(r"heavy: \[\] seconds: (\S+)", output)
    assert found, output
    assert float(found.group(1)) < light_seconds()


CHANGES = """
import logging, sys, warnings
import {first}
import fairseq, torch

def state():
    levels = [(name, logger.level, len(logger.handlers))
              for name, logger in sorted(logging.root.manager.loggerDict.items())
              if isinstance(logger, logging.Logger) and (logger.level or logger.handlers)]
    root = (logging.root.level, list(logging.root.handlers))
    return {{
        "excepthook": sys.excepthook,
        "displayhook": sys.displayhook,
        "warnings": list(warnings.filters),
        "root logger": root,
        "loggers": levels,
        "random state": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "torch.load": torch.load,
        "path": list(sys.path),
        "pyplot": "matplotlib.pyplot" in sys.modules,
    }}

before = state()
import admin_fairseq
after = state()
print("changed:", [key for key in before if before[key] != after[key]])
print("loggers:", [entry for entry in after["loggers"] if entry not in before["loggers"]])
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY
print("registered:", "admin_transformer" in ARCH_MODEL_REGISTRY, "radam" in OPTIMIZER_REGISTRY)
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_in_somebodys_notebook_nothing_else_changes():
    output = python(REPOSITORY, "-c", CHANGES.format(first="fairseq"))
    assert "changed: ['loggers']" in output, output
    # fairseq asks for tensorboardX on import, even of those who read a table
    assert re.search(r"loggers: \[\('fairseq.tasks.text_to_speech', 30, \d\)\]", output), output
    assert "registered: True True" in output


@pytest.mark.slow
@pytest.mark.subprocess
def test_it_registers_before_fairseq_is_imported_too():
    output = python(REPOSITORY, "-c", CHANGES.format(first="admin_fairseq.experiments"))
    assert "changed: []" in output and "registered: True True" in output, output


@pytest.mark.parametrize(
    ("argv", "main", "expected"),
    [
        (["/usr/bin/fairseq-train", "data"], {}, True),
        (["fairseq-hydra-train"], {}, True),
        (["/lib/fairseq_cli/generate.py"], {}, True),
        (["train.py"], {"__file__": "train.py", "cli_main": "fairseq_cli.train"}, True),
        (["train.py"], {"__file__": "train.py", "cli_main": "my_project.train"}, False),
        (["train.py"], {"__file__": "train.py"}, False),
        ([""], {"cli_main": "fairseq_cli.train"}, False),
        (["ipykernel_launcher.py"], {"__file__": "ipykernel_launcher.py"}, False),
        (["my/fairseq-train.py"], {"__file__": "my/fairseq-train.py"}, False),
        (["admin-fairseq"], {"__file__": "admin-fairseq"}, False),
        (["pytest"], {"__file__": "pytest"}, False),
        ([], {}, False),
        (None, {}, False),
    ],
)
def test_fairseqs_commands_are_known(monkeypatch, argv, main, expected):
    """Its console scripts, ``python -m``, and scripts that hand over to ``cli_main``."""
    entry = main.pop("cli_main", None)
    module = SimpleNamespace(**main)
    if entry is not None:
        module.cli_main = SimpleNamespace(__module__=entry)
    monkeypatch.setitem(sys.modules, "__main__", module)
    if argv is None:
        monkeypatch.delattr(sys, "argv")
    else:
        monkeypatch.setattr(sys, "argv", argv)
    assert program.is_fairseq_command() == expected


def test_the_excepthook_is_installed_once(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    errors.install_excepthook()
    hook = sys.excepthook
    errors.install_excepthook()
    assert sys.excepthook is hook is not sys.__excepthook__


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def mistake():
    raise AdminError("--flag: wrong\n  - the way out")


def wrapped_by_fairseq():
    try:
        mistake()
    except Exception:
        # as Trainer.load_checkpoint has it
        raise Exception(  # noqa: B904
            "Cannot load model parameters from checkpoint x.pt; "
            "please ensure that the architectures match."
        )


def another_error():
    try:
        mistake()
    except AdminError:
        {}["missing"]


def caused():
    try:
        mistake()
    except AdminError as error:
        raise ValueError("something else") from error


MESSAGE = "--flag: wrong\n  - the way out"


@pytest.mark.parametrize(
    ("function", "expected"),
    [(mistake, MESSAGE), (wrapped_by_fairseq, MESSAGE), (another_error, None), (caused, None)],
)
def test_an_error_is_hidden_only_by_what_it_is(function, expected, monkeypatch, capsys):
    """Also as the text that torch makes of it in the parent of a process for a GPU."""
    error = caught(function)
    assert message_of(error) == expected
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    spawned = ProcessRaisedException(
        f"\n\n-- Process 1 terminated with the following error:\n{text}", 1, 1234
    )
    assert message_of(spawned) == expected

    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *parts: shown.append(parts))
    errors.install_excepthook()
    for what in (error, spawned):
        sys.excepthook(type(what), what, what.__traceback__)
    if expected is None:
        assert [parts[1] for parts in shown] == [error, spawned]
        assert capsys.readouterr().err == ""
    else:
        assert not shown
        assert capsys.readouterr().err == 2 * f"admin_fairseq: error: {MESSAGE}\n"


@pytest.mark.parametrize("name", admin_fairseq.__all__)
def test_the_api_is_there(name):
    assert getattr(admin_fairseq, name) is not None
    assert name in dir(admin_fairseq)


def test_mypy_and_editors_see_the_same_api():
    """The imports for type checkers, the table and ``__all__`` name the same things."""
    source = inspect.getsource(admin_fairseq)
    block = source.split("if TYPE_CHECKING:\n")[1].split("\n\n__all__")[0]
    names = set()
    for line in block.splitlines():
        module, imported = re.fullmatch(r" +from \.([\w.]+) import (.*)", line).groups()
        for word in imported.split(", "):
            original, _, alias = word.partition(" as ")
            names.add(alias or original)
            assert admin_fairseq._API[alias or original] == (module, original)
    assert names == set(admin_fairseq._API)
    assert set(admin_fairseq.__all__) == names | {"__version__", "register"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = admin_fairseq.nothing


OLD_NAMES = {
    "authors": ["import_checkpoint"],
    "average": ["average_to_file"],
    "ctranslate2_export": ["export_ctranslate2"],
    "export": ["fold_checkpoint"],
    "first_step": ["profile_at_first_step"],
    "fold": ["fold", "fold_state"],
    "grow": ["grow_vocabulary"],
    "omega_init": ["apply_profile"],
    "profile_checks": ["checksum", "with_checksum"],
    "profile_file": ["load", "save"],
    "profiling": ["profile_omega", "Profile", "SiteProfile"],
}


@pytest.mark.parametrize("old", moved.MOVED)
def test_old_paths_go_on_with_a_warning(old):
    new = importlib.import_module(f"admin_fairseq.{moved.MOVED[old]}")
    for name in OLD_NAMES[old]:
        found = {}
        with pytest.warns(FutureWarning) as told:
            exec(f"from admin_fairseq.{old} import {name}", found)
        assert found[name] is getattr(new, name)
        (warning,) = told
        assert f"admin_fairseq.{old} is {new.__name__} now" in str(warning.message)
        assert warning.filename == "<string>", "the user's line is named"
    module = importlib.import_module(f"admin_fairseq.{old}")
    with pytest.warns(FutureWarning):
        assert getattr(module, OLD_NAMES[old][0])
    with pytest.raises(AttributeError):
        _ = module.nothing


def test_an_old_path_hides_no_function():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("from admin_fairseq.fold import fold", {})
        exec("import admin_fairseq.profiling; admin_fairseq.profiling.profile_omega", {})
    assert admin_fairseq.fold is importlib.import_module("admin_fairseq.deploy.fold").fold


def test_walking_over_modules_takes_nothing_from_old_paths():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in list(sys.modules.values()):
            hasattr(module, "__file__")
        inspect.getmodule(test_an_old_path_hides_no_function)
        assert importlib.util.find_spec("admin_fairseq.profiling") is not None


@pytest.mark.parametrize("name", ["named_sites", "branch_matrices"])
def test_names_that_left_a_module_are_found_there_for_a_release_more(name):
    from admin_fairseq import residual, sites

    with pytest.warns(FutureWarning, match=f"residual.{name} is admin_fairseq.sites.{name} now"):
        assert getattr(residual, name) is getattr(sites, name)
    with pytest.raises(AttributeError, match="has no attribute 'named_places'"):
        residual.named_places  # noqa: B018
