"""Import paths of release 0.1.0, for one release more.

Then this file goes, with its two mentions in ``__init__``. Each old module is a stand-in that
imports nothing before something is taken from it.
"""

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "authors": "checkpoints.authors",
    "average": "checkpoints.average",
    "ctranslate2_export": "deploy.ctranslate2_export",
    "export": "deploy.export",
    "first_step": "profile.first_step",
    "fold": "deploy.fold",
    "grow": "checkpoints.grow",
    "omega_init": "profile.fill",
    "profile_checks": "profile.checks",
    "profile_file": "profile.file",
    "profiling": "profile.measure",
}

# names that left a module which is still there
MOVED_NAMES = {
    "residual": {"branch_matrices": "sites", "named_sites": "sites"},
}


class MovedModule(ModuleType):
    """A module that lives elsewhere now: what is taken from it comes from there, with a warning."""

    def __init__(self, name: str, new_name: str) -> None:
        super().__init__(name, f"Moved to ``{new_name}``.")
        # importlib.util.find_spec raises for a loaded module that has none
        self.__spec__ = ModuleSpec(name, loader=None)
        self._new_name = new_name

    def __getattr__(self, name: str) -> Any:
        # those who walk over sys.modules (inspect, unittest) ask for such names, and mean no import
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._new_name), name)
        _warn(self.__name__, self._new_name)
        return value


def keep_old_paths(package: str) -> None:
    """Let the old modules of a package be imported."""
    for old, new in MOVED.items():
        name = f"{package}.{old}"
        # looked up before any finder is asked, so that no file need be there
        sys.modules.setdefault(name, MovedModule(name, f"{package}.{new}"))


def name_of(module: str, name: str) -> Any:
    """What a module's ``__getattr__`` returns: a name that moved, from where it is now.

    Raises:
        AttributeError: if the module never had it.
    """
    package, _, own = module.rpartition(".")
    if name not in MOVED_NAMES[own]:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = f"{package}.{MOVED_NAMES[own][name]}"
    value = getattr(importlib.import_module(new), name)
    _warn(f"{module}.{name}", f"{new}.{name}")
    return value


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is {new} now, and the old path goes with the next release",
        FutureWarning,
        stacklevel=3,  # the line that took the name
    )
