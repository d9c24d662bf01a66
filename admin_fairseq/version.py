"""The package's version, the one place; setup.py and profiles read it."""

__version__ = "0.1.0"
