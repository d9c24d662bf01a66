"""Archives of made-up text in the published layout, and the scripts that prepare them."""

import configparser
import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

from admin_fairseq.experiments.recipe import RECIPES
from tests.helpers import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"

WORDS = [
    "Hund",
    "Katze",
    "läuft",
    "über",
    "„den“",
    "Zaun,",
    "it's",
    "state-of-the-art",
    "1,000",
    "and’s",
    "<b>",
    "&",
    "Co.",
    "(well)",
    "d’accord",
]


# pairs that a published script treats in a way of its own: filters, ends of lines, quotes, dots
HARD = [
    ("", "Nothing on the other side."),
    ("  ", "\xa0"),
    ("One.", "one two three four five six seven eight nine ten"),
    ("x", "one two three four five six seven eight nine"),
    ("w " * 80, "v " * 80),
    ("w " * 81, "v " * 81),
    ("u " * 200, "u " * 260),
    ("k" * 1001 + " a", "b c"),
    ("k" * 1000 + " a", "b c"),
    ("a|b | c", "[d] &amp; <e>"),
    ('He said "yes."', "Sie sagte „nein.“"),
    ("It is art.", "Das ist Kap."),
    ("caf\xe9’s don’t", "l’\xe9t\xe9, du’s ’90"),
    ("re\rturn", "ver\x0btical"),
    ("next\x85line\u2028here", "zero\u200bwidth\xad"),
    ("control\x01\x1cs", "\ufeffmark"),
    ("5\xa0000 \xab\xa0a\xa0\xbb", "No. 5, No. six. Etc."),
    ("Wait... .. .", "((a) b ) : c"),
]


def sentences(count, seed, longest=12):
    """Made-up sentences with what tokenisers care for, of several lengths for the filter."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=rng.randint(1, longest))) + rng.choice([".", "?", " !"])
        for _ in range(count)
    ]


def tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, text in members.items():
            data = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def text_of(lines):
    return "".join(line + "\n" for line in lines)


def sgml(lines, name="newstest", segments_per_document=7):
    """A set of WMT: documents, <hl> and <p> around <seg> elements."""
    text = f'<refset setid="{name}" srclang="any" trglang="de">\n'
    for start in range(0, len(lines), segments_per_document):
        text += f'<doc sysid="ref" docid="{start}" genre="news" origlang="de">\n<hl>\n'
        for number, line in enumerate(lines[start : start + segments_per_document], 1):
            text += f'<seg id="{number}">{line}</seg>\n' + ("</hl>\n<p>\n" if number == 1 else "")
        text += "</p>\n</doc>\n"
    return text + "</refset>\n"


def ted_xml(lines, lang):
    text = '<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n'
    text += f'<srcset setid="dev" srclang="{lang}">\n<doc docid="1">\n'
    text += "<url>http://www.ted.com/1</url>\n<keywords>talks, segs</keywords>\n"
    text += "<title>No line of text</title>\n"
    text += "".join(f'<seg id="{number}"> {line} </seg>\n' for number, line in enumerate(lines, 1))
    return text + "</doc>\n</srcset>\n</mteval>\n"


def train_tags(lines, lang):
    """Talks as in train.tags.*: every fifth line is a title, the next a description, with tags."""
    text, kept = "", []
    for number, line in enumerate(lines):
        if number % 5 == 0:
            text += f"<url>http://www.ted.com/{number}</url>\n<keywords>talks, {lang}</keywords>\n"
            text += f"<talkid>{number}</talkid>\n"
            text += f"<title>{line}</title>\n"
        elif number % 5 == 1:
            text += f"<description>{line}</description>\n"
        else:
            text += line + "\n"
        kept.append(line)
    return text, kept


def iwslt14(folder, pairs=120, per_test=6, hard=()):
    """de-en.tgz; returns what raw/ must hold: name -> lines. ``hard``: pairs added to train."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, members = {}, {"de-en/README": "no text"}
    for side, lang in enumerate(("de", "en")):
        lines = sentences(pairs, lang) + [pair[side] for pair in hard]
        text, raw[f"train.{lang}"] = train_tags(lines, lang)
        members[f"de-en/train.tags.de-en.{lang}"] = text
        raw[f"test.{lang}"] = []
        for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"):
            lines = sentences(per_test, name + lang)
            members[f"de-en/IWSLT14.{name}.de-en.{lang}.xml"] = ted_xml(lines, lang)
            raw[f"test.{lang}"] += lines
    # the tar holds them in another order than the recipe names them
    tar(folder / "de-en.tgz", dict(sorted(members.items())))
    return raw


def wmt14(folder, target, pairs=40, commentary="v12", hard=()):
    """The archives of WMT'14 English to ``target``, nested as on the server; see ``iwslt14``.

    dev.tgz has newstest2013 as plain text, and beside it SGML of that name with another text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair, langs = f"{target}-en", ("en", target)
    corpora = {
        "training-parallel-europarl-v7.tgz": f"training/europarl-v7.{pair}.",
        "training-parallel-commoncrawl.tgz": f"commoncrawl.{pair}.",
        "training-parallel-un.tgz": f"un/undoc.2000.{pair}.",
        f"training-parallel-nc-{commentary}.tgz": f"training/news-commentary-{commentary}.{pair}.",
        "training-giga-fren.tar": "giga-fren.release2.fixed.",
    }
    if target == "de":
        del corpora["training-parallel-un.tgz"], corpora["training-giga-fren.tar"]
    raw = {f"train.{lang}": [] for lang in langs}
    for archive, stem in corpora.items():
        members = {f"training/europarl-v7.cs-en.{lang}": "another pair\n" for lang in ("cs", "en")}
        for side, lang in enumerate(langs):
            lines = sentences(pairs, archive + lang) + [pair[side] for pair in hard]
            raw[f"train.{lang}"] += lines
            name, text = f"{stem}{lang}", text_of(lines)
            packed = archive.endswith(".tar")
            members[name + (".gz" if packed else "")] = (
                gzip.compress(text.encode(), mtime=0) if packed else text
            )
        tar(folder / archive, members, "w" if archive.endswith(".tar") else "w:gz")
    test, dev = {}, {}
    for side, lang in (("src", "en"), ("ref", target)):
        raw[f"test.{lang}"] = sentences(10, "test" + lang)
        stem = "deen" if target == "de" else "fren"
        test[f"test-full/newstest2014-{stem}-{side}.{lang}.sgm"] = sgml(raw[f"test.{lang}"])
        raw[f"valid.{lang}"] = sentences(9, "dev" + lang)
        dev[f"dev/newstest2013-{side}.{lang}.sgm"] = sgml(sentences(9, "another text"))
        dev[f"dev/newstest2013.{lang}"] = text_of(raw[f"valid.{lang}"])
    tar(folder / "test-full.tgz", test)
    if target == "de":
        tar(folder / "dev.tgz", dev)
    else:
        del raw["valid.en"], raw[f"valid.{target}"]
    return raw


def manifest(path, folder, url="http://localhost:9", **changes):
    """A manifest of a folder's archives, with their checksums; ``changes`` replaces keys."""
    parser = configparser.ConfigParser(interpolation=None)
    for archive in sorted(folder.iterdir()):
        data = archive.read_bytes()
        values = {
            "url": f"{url}/{archive.name}",
            "bytes": str(len(data)),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        parser[archive.name] = {**values, **changes}
    with open(path, "w") as file:
        parser.write(file)
    return path


def recipe(path, name, **changes):
    """The shipped recipe ``name`` without published counts; ``changes`` for made-up text."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(RECIPES / f"{name}.ini")
    data = {
        key: value
        for key, value in parser["data"].items()
        if key not in ("published_lines", "checksums")
    }
    parser["data"] = {**data, "disk_gb": "0.0001", **changes}
    for section in set(parser.sections()) - {"data"}:
        del parser[section]
    with open(path, "w") as file:
        parser.write(file)
    return path


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def bash(script, *words):
    """Run a script of scripts/ as a user does; output and errors in one text."""
    command = ["bash", str(SCRIPTS / script), *(str(word) for word in words)]
    return subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def files(folder):
    """Relative path -> bytes of what a preparation made, without records (of times) and logs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log" and path.parent.name != "stages"
    }


def preparation(folder, name, dest="out", **changed):
    """The flags that prepare a small recipe, made if need be, of the archives in ``folder/in``.

    Args:
        changed: keys of the recipe's [data] section with other values.
    """
    own = folder / f"{name}.ini"
    if not own.exists():
        recipe(own, name, **changed)
    known = folder / "manifest.ini"
    if not known.exists():
        manifest(known, folder / "in")
    pairs = [("--recipe", own), ("--manifest", known), ("--from", folder / "in")]
    pairs.append(("--dest", folder / dest))
    return [str(word) for pair in pairs for word in pair]
