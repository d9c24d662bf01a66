"""Profile <-> file: a text that a person can read, written whole or not at all.

::

    # Admin profile. omega scales the shortcut ...
    # version: 1
    # sites: 13
    # seed: 1111
    # ...
    #site<TAB>omega<TAB>branch variance<TAB>shortcut variance
    encoder.layers.0.self_attn_residual<TAB>1.0<TAB>0.0316...<TAB>1.98...
    ...
    # checksum: 0123456789abcdef
    # end of profile

The checksum tells damage. Files of older releases have none: their numbers must obey the recursion
instead (``profile_checks``). Whoever edits a file by hand renews its checksum.

The authors' ``profile.ratio.init`` is read too (``profile_two_columns``).
"""

import logging
import os
import shlex
import stat
from collections import OrderedDict

from .. import files
from ..errors import AdminError, raise_all
from . import checks as profile_checks
from .checks import CHECKSUM, first_of, key_of, number_in, shown
from .data import Profile, SiteProfile, stack_of
from .two_columns import parse_two_columns

logger = logging.getLogger(__name__)

VERSION = "1"
TITLE = "# Admin profile"
ABOUT = (
    "Admin profile. A residual site computes LayerNorm(f(x) + omega * x); omega is the start of its",
    "learnable vector. Variances are of the branch f(x) and the shortcut omega * x, in the profiling pass.",
)
COLUMNS = ("site", "omega", "branch variance", "shortcut variance")
END = "# end of profile"
LARGEST = 4 * 2**20  # bytes; a profile of 1000-1000 has half a megabyte


def save(profile, path):
    """Write a profile atomically: readers see the old file or the new one, never a part.

    Raises:
        AdminError: if ``load`` would refuse its names or numbers, or ``path`` is a device or the like.
        OSError: if the file cannot be written; a file that was there is still there.
    """
    problems = unwritable_names(profile) + profile_checks.out_of_range(profile.sites)
    raise_all(f"{path}: this profile cannot be written:", first_of(problems))
    if os.path.exists(path) and not os.path.isfile(path):
        raise AdminError(f"{path}: is no regular file, and is not replaced by a profile")
    lines = ["# " + line for line in ABOUT]
    lines += [f"# version: {VERSION}", f"# sites: {len(profile.sites)}"]
    lines += [f"# {key}: {_one_line(value)}" for key, value in profile.provenance.items()]
    lines.append("#" + "\t".join(COLUMNS))
    for name, site in profile.sites.items():
        lines.append("\t".join([name] + [_show(value) for value in _values(site)]))
    _write("\n".join(lines + [END]), path)


def may_replace(path):
    """Whether nothing is lost by writing a profile there: no file, an empty one, or a profile, even a part.

    Never what is no regular file (a device, a link that leads nowhere) or cannot be read.
    """
    try:
        with _open(path) as file:
            return file.read(len(TITLE)) in (b"", TITLE.encode())
    except (
        FileNotFoundError,
        NotADirectoryError,
    ):  # if it cannot be made there, whoever writes will say so
        return not os.path.islink(path)
    except (OSError, ValueError):
        return False


def load(path):
    """Read a profile, ours or the authors' two columns.

    Raises:
        AdminError: naming the file and what is wrong, if it is missing, damaged or not a profile.

    A warning names the sites whose omegas do not follow from the variances although the checksum is right:
    they were edited on purpose. Another says of two columns that nothing can be compared.
    """
    try:
        profile, text, digits = _read(path)
        if text.startswith("#"):
            _check_damage(profile, text, digits, path)
        else:
            logger.warning(
                "%s: two columns, without checksum and variances: damage to an omega would not show",
                path,
            )
        return profile
    except ValueError as error:
        raise AdminError(f"{path}: {error}") from None


def renew_checksum(path):
    """Give a profile that was edited by hand a right checksum, if all else in it is sound.

    Raises:
        AdminError: as ``load``, but for a wrong checksum and omegas that do not follow from the variances;
            and if the file cannot be written: it is then as it was.
    """
    try:
        _, text, _ = _read(path)
    except ValueError as error:
        raise AdminError(f"{path}: {error}") from None
    if not text.startswith("#"):
        raise AdminError(f"{path}: a profile of two columns has no checksum")
    try:
        _write(text, os.path.realpath(path))  # a link goes on leading to it
    except OSError as error:
        raise AdminError(f"{path}: the checksum cannot be written: {error}") from None
    logger.info("%s: checksum renewed", path)


def _check_damage(profile, text, digits, path):
    """Refuse a wrong checksum; of older files, which have none, lines that do not follow from each other."""
    way_out = (
        "If it is damaged, make it again, with --init-type adaptive-profiling. If it was edited by hand on purpose: "
        f"admin-fairseq profile {shlex.quote(os.fspath(path))} --renew-checksum"
    )
    problems = profile_checks.against_recursion(profile.sites)
    if digits is None:
        problems = profile_checks.out_of_order(profile.sites) + problems
        _refuse(
            "its lines do not follow from each other, and it has no checksum:", problems, way_out
        )
    elif digits != profile_checks.checksum(text):
        raise ValueError(f"the checksum is wrong.\n{way_out}")
    elif problems:
        lines = ["edited by hand, omegas do not follow from the variances:"] + first_of(problems)
        logger.warning("%s: %s", path, "\n  - ".join(lines))


def _refuse(heading, problems, *after):
    if problems:
        raise ValueError(
            "\n".join(
                [heading] + [f"  - {problem}" for problem in first_of(problems)] + list(after)
            )
        )


def _open(path):
    """Open a regular file for reading bytes. Anything else is a ValueError: a FIFO would wait, a device never end."""

    def opener(name, flags):
        return os.open(name, flags | os.O_NONBLOCK)

    if stat.S_ISREG(os.stat(path).st_mode):
        file = open(path, "rb", opener=opener)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise ValueError("cannot be read as a profile: it is no regular file")


def _read(path):
    """Return what a file says: the Profile, its text with Unix line ends, and the checksum, None without one.

    All is checked but whether the checksum is right and the recursion holds.
    """
    try:
        with _open(path) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ValueError("no such profile") from None
    except OSError as error:
        raise ValueError(f"cannot be read as a profile: {error.strerror}") from None
    if len(content) > LARGEST:
        raise ValueError(f"not a profile: it is larger than {LARGEST // 2**20} MB")
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"cannot be read as a profile: line {line} is not UTF-8") from None
    _refuse("cannot be read as a profile:", profile_checks.unprintable(text))
    profile, digits = _parse(text) if text.startswith("#") else (parse_two_columns(text), None)
    _refuse("no model has such numbers:", profile_checks.out_of_range(profile.sites))
    return profile, text, digits


def _write(text, path):
    with files.replacing(path) as file:
        file.write(profile_checks.with_checksum(text).encode("utf-8"))


def unwritable_names(profile):
    """Return what of a profile's names would not be read as it is written."""
    reserved = ("version", "sites", CHECKSUM)
    keys = [key for key in profile.provenance if key in reserved or ":" in key or not _is_word(key)]
    names = [name for name in profile.sites if name.startswith("#") or not _is_word(name)]
    return [f"{shown(name)} cannot be the name of a site" for name in names] + [
        f"{shown(key)} cannot be the name of a fact" for key in keys
    ]


def _is_word(text):
    return text.isprintable() and text.strip() == text != ""


def _one_line(value):
    """Return a value as printable text in one line."""
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _values(site):
    return site.omega, site.branch_variance, site.shortcut_variance


def _show(value):
    return "-" if value is None else repr(float(value))


def _parse(text):
    lines = text.split("\n")
    header = [line for line in lines if line.startswith("#")]
    if not header[0].startswith(TITLE):
        raise ValueError("not a profile: its first line does not say 'Admin profile'")
    provenance = _parse_header(header[len(ABOUT) :])
    version, count, digits = (provenance.pop(key, None) for key in ("version", "sites", CHECKSUM))
    if version != VERSION:
        raise ValueError(
            f"profile version {version and shown(version)}, but this release reads version {VERSION}"
        )
    if text.rstrip("\n").rsplit("\n", 1)[-1] != END:
        raise ValueError("the profile is cut short: its last line is missing")
    sites = OrderedDict()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            name, site = _parse_site(number, line)
            if name in sites:
                raise ValueError(f"line {number}: {shown(name)} stands there twice")
            sites[name] = site
    if str(len(sites)) != count:
        raise ValueError(
            f"the header says {count and shown(count)} sites, but there are {len(sites)}"
        )
    return Profile(sites, provenance), digits


def _parse_header(lines):
    """Return ``{key: value}`` of the lines ``# key: value``; others are remarks."""
    facts = OrderedDict()
    for line in lines:
        key = key_of(line)
        if key in facts:
            raise ValueError(f"the header says {shown(key)} twice")
        if key is not None:
            facts[key] = line.partition(":")[2].strip()
    return facts


def _parse_site(number, line):
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise ValueError(f"line {number}: {len(cells)} columns instead of {len(COLUMNS)}")
    values = [None if cell.strip() == "-" else number_in(cell, number) for cell in cells[1:]]
    if values[0] is None:
        raise ValueError(f"line {number}: omega is missing")
    return cells[0], SiteProfile(*values)


def table(profile):
    """Return a profile as a table for people: one line a site, a blank line between the stacks."""
    width = max([len(name) for name in profile.sites] + [len(COLUMNS[0])])
    lines = ["{:<{}}  {:>10}  {:>16}  {:>18}".format(COLUMNS[0], width, *COLUMNS[1:])]
    stack = None
    for name, site in profile.sites.items():
        if stack not in (None, stack_of(name)):
            lines.append("")
        stack = stack_of(name)
        branch, shortcut = ("-" if v is None else f"{v:.6f}" for v in _values(site)[1:])
        lines.append(f"{name:<{width}}  {site.omega:>10.6f}  {branch:>16}  {shortcut:>18}")
    return "\n".join(lines)
