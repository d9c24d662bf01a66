"""Measure the house: how the code is typed, how light the command is, what is said twice.

    python scripts/measure_house.py                      # this checkout
    python scripts/measure_house.py --root OTHER-CHECKOUT

Prints one table, in Markdown. What a command costs is the median of five runs, in CPU seconds
(user and system).
"""

import argparse
import ast
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
FAMILIAR = ("start", "check", "compare", "build", "table", "describe")
START = (
    "import sys; sys.argv[0] = 'admin-fairseq'; "
    "from admin_fairseq.cli import main; sys.exit(main())"
)


def tracked(root, pattern):
    """Return the files of a checkout that git knows."""
    words = ["git", "-C", str(root), "ls-files", "-z", pattern]
    names = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [root / name for name in names.split("\0") if name]


def typed_arguments(trees):
    """Return the share of arguments with a type, ``self`` and ``cls`` left out, in percent."""
    typed = total = 0
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                given = node.args
                arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                arguments += [argument for argument in (given.vararg, given.kwarg) if argument]
                for argument in arguments:
                    if argument.arg not in ("self", "cls"):
                        total += 1
                        typed += argument.annotation is not None
    return 100 * typed / total


def public_names(trees):
    """Return the public names that modules define, with how often each."""
    names = Counter()
    for tree in trees:
        for node in tree.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
                names[node.name] += 1
    return names


def unused_names(paths, trees):
    """Return how many public names no other module mentions."""
    words = {path: set(re.findall(r"\w+", path.read_text())) for path in paths}
    count = 0
    for path, tree in zip(paths, trees):
        elsewhere = set().union(*(found for other, found in words.items() if other != path))
        count += sum(name not in elsewhere for name in public_names([tree]))
    return count


def comments(paths):
    """Return the share of lines with a comment, in percent."""
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return 100 * sum(bool(re.search(r"(^|\s)#", line)) for line in lines) / len(lines)


def cost(root, *words):
    """Return CPU seconds and MiB of one of our commands, the medians of five runs."""
    seconds, peaks = [], []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-c", START, *words]
        subprocess.run(program, cwd=root, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        peaks.append(after.ru_maxrss / 1024)  # of the largest child so far
    return statistics.median(seconds), statistics.median(peaks)


def count_ruff(root, *words):
    """Return how many findings, or files to reformat, ruff counts with these words."""
    program = [sys.executable, "-m", "ruff", *words]
    output = subprocess.run(program, cwd=root, capture_output=True, text=True).stdout
    found = re.search(r"Found (\d+) error|(\d+) files? would be", output)
    return int(found[1] or found[2]) if found else 0


def show(name, value):
    """Print one row of the table."""
    print(f"| {name} | {value} |", flush=True)


def measure_code(root):
    """Print what the package's code tells."""
    paths = tracked(root, "admin_fairseq/**/*.py") + tracked(root, "admin_fairseq/*.py")
    paths = sorted(set(paths))
    trees = [ast.parse(path.read_text()) for path in paths]
    lines = [line for path in paths for line in path.read_text().splitlines()]
    packed = sum(isinstance(node, COMPREHENSIONS) for tree in trees for node in ast.walk(tree))
    names = public_names(trees)
    show("modules, lines of the package", f"{len(paths)}, {len(lines)}")
    show("arguments with types", f"{typed_arguments(trees):.0f} %")
    show(
        "lines over 100 characters",
        f"{100 * sum(len(line) > 100 for line in lines) / len(lines):.1f} %",
    )
    show("comprehensions per 100 lines", f"{100 * packed / len(lines):.1f}")
    show("lines with a comment", f"{comments(paths):.1f} %")
    show("public names", sum(names.values()))
    show("of these named by no other module", unused_names(paths, trees))
    show("functions of one familiar name", ", ".join(f"{name} {names[name]}" for name in FAMILIAR))
    show("modules that say rezero", sum("rezero" in path.read_text() for path in paths))


def measure_repository(root):
    """Print what the whole repository tells."""
    texts = [path.read_text(errors="replace") for path in tracked(root, "*") if path.is_file()]
    own = Path(__file__).read_text()
    paths = sum(
        len(re.findall(r"sys\.path\.(?:insert|append)\(", text)) for text in texts if text != own
    )
    variables = sum(text.count("PYTHONPATH=") for text in texts if text != own)
    show("sys.path.insert or append", paths)
    show("PYTHONPATH=", variables)
    scripts = tracked(root, "scripts/*.py")
    show("lines of Python in scripts/", sum(len(path.read_text().splitlines()) for path in scripts))
    show(
        "findings of ruff check, by its own settings",
        count_ruff(root, "check", "--output-format", "concise"),
    )
    show("files that ruff format would change", count_ruff(root, "format", "--check"))
    show("lines of README.md", len((root / "README.md").read_text().splitlines()))


def measure_command(root):
    """Print what our command costs."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "admin.profile"
        profile.write_text(two_columns())
        for words in (["--help"], ["--version"], ["profile", str(profile)]):
            seconds, peak = cost(root, *words)
            name = " ".join(words[:1])
            show(f"admin-fairseq {name}", f"{seconds:.2f} CPU-s, {peak:.0f} MiB")


def two_columns():
    """Return a profile of 2-2 in the authors' format, which every release reads."""
    places = [*range(1, 5), *range(1, 7)]  # two sites an encoder layer, three a decoder layer
    return "".join(f"{place} {1 + place / 10}\n" for place in places)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    words = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    print(f"| {commit} | |")
    print("|---|---|")
    measure_code(root)
    measure_repository(root)
    measure_command(root)


if __name__ == "__main__":
    main()
