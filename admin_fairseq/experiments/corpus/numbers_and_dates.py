"""A small English-German corpus of written-out numbers, dates, prices and times.

Every pair is composed from rules (num2words spells numbers, Babel names days, months and
currencies), so the corpus is free of licences, the same on every machine, and still a translation
task: German turns units and tens round (vierunddreißig), writes numbers in one word, inflects
dates, and counts half hours towards the next hour (halb neun is half past eight).
"""

import datetime
import random
from collections.abc import Iterator, Mapping

from babel.dates import get_day_names, get_month_names
from babel.numbers import get_currency_name
from num2words import num2words

LANGUAGES = ("en", "de")
Pair = tuple[str, str]  # English, German

# fmt: off
PEOPLE = [
    "Anna", "Ben", "Clara", "David", "Eva", "Felix",
    "Greta", "Hugo", "Ida", "Jonas", "Karla", "Leo",
]
# fmt: on
# (English one, many; German article and noun, many)
GOODS = [
    ("ticket", "tickets", "die Karte", "Karten"),
    ("book", "books", "das Buch", "Bücher"),
    ("bicycle", "bicycles", "das Fahrrad", "Fahrräder"),
    ("table", "tables", "der Tisch", "Tische"),
    ("lamp", "lamps", "die Lampe", "Lampen"),
    ("coat", "coats", "der Mantel", "Mäntel"),
    ("camera", "cameras", "die Kamera", "Kameras"),
    ("suitcase", "suitcases", "der Koffer", "Koffer"),
    ("clock", "clocks", "die Uhr", "Uhren"),
    ("picture", "pictures", "das Bild", "Bilder"),
]
PLACES = [
    ("at the station", "am Bahnhof"),
    ("in the library", "in der Bibliothek"),
    ("at the market", "auf dem Markt"),
    ("in front of the theatre", "vor dem Theater"),
    ("in the museum", "im Museum"),
    ("at the harbour", "am Hafen"),
]
EVENTS = [
    ("The train leaves", "Der Zug fährt"),
    ("The concert begins", "Das Konzert beginnt"),
    ("The shop opens", "Das Geschäft öffnet"),
    ("The meeting ends", "Die Sitzung endet"),
    ("The ship arrives", "Das Schiff kommt"),
]
CURRENCIES = [
    ("EUR", "cents", "Cent"),
    ("USD", "cents", "Cent"),
    ("GBP", "pence", "Pence"),
    ("CHF", "centimes", "Rappen"),
]


def number(rng: random.Random, largest: int = 999_999) -> Pair:
    """Return one number in both languages; short and long ones are equally likely."""
    value = rng.randrange(2, rng.choice([100, 1_000, 10_000, largest]) + 1)
    return _in_words(value)


def price(rng: random.Random) -> Pair:
    """Return one price in both languages, half of them with cents."""
    code, cents_en, cents_de = rng.choice(CURRENCIES)
    whole = rng.randrange(2, rng.choice([100, 1000, 10_000]))
    cents = rng.choice([0, rng.randrange(2, 100)])
    whole_en, whole_de = _in_words(whole)
    en = f"{whole_en} {get_currency_name(code, count=whole, locale='en')}"
    de = f"{whole_de} {get_currency_name(code, count=whole, locale='de')}"
    if cents:
        few_en, few_de = _in_words(cents)
        en += f" and {few_en} {cents_en}"
        de += f" und {few_de} {cents_de}"
    return en, de


def _in_words(value: int) -> Pair:
    return num2words(value, lang="en").replace(",", ""), num2words(value, lang="de")


def date(rng: random.Random) -> Pair:
    """Return one day of the years 1900 to 2099 in both languages."""
    day = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))
    weekday_en, weekday_de, month_en, month_de = _names_of(day)
    ordinal_en = num2words(day.day, lang="en", to="ordinal")
    ordinal_de = num2words(day.day, lang="de", to="ordinal") + "n"
    year_en = num2words(day.year, lang="en", to="year")
    year_de = num2words(day.year, lang="de", to="year")
    return (
        f"on {weekday_en} the {ordinal_en} of {month_en} {year_en}",
        f"am {weekday_de} dem {ordinal_de} {month_de} {year_de}",
    )


def _names_of(day: datetime.date) -> tuple[str, str, str, str]:
    """Return the names of a day's weekday and month, each in both languages."""
    weekdays = [get_day_names("wide", locale=lang)[day.weekday()] for lang in LANGUAGES]
    months = [get_month_names("wide", locale=lang)[day.month] for lang in LANGUAGES]
    return weekdays[0], weekdays[1], months[0], months[1]


def time(rng: random.Random) -> Pair:
    """Return one time of day; German counts half hours and quarters otherwise than English."""
    hour = rng.randrange(1, 12)
    at_en, next_en = num2words(hour, lang="en"), num2words(hour + 1, lang="en")
    at_de, next_de = _hour_de(hour), _hour_de(hour + 1)
    minutes_en, minutes_de = _in_words(rng.randrange(2, 30))
    return rng.choice(
        [
            (f"at half past {at_en}", f"um halb {next_de}"),
            (f"at quarter to {next_en}", f"um Viertel vor {next_de}"),
            (f"at quarter past {at_en}", f"um Viertel nach {at_de}"),
            (f"at {minutes_en} minutes past {at_en}", f"um {minutes_de} Minuten nach {at_de}"),
            (f"at {minutes_en} minutes to {next_en}", f"um {minutes_de} Minuten vor {next_de}"),
        ]
    )


def _hour_de(hour: int) -> str:
    return "eins" if hour == 1 else str(num2words(hour, lang="de"))


def sentence(rng: random.Random) -> Pair:
    """Return one English sentence and its German translation."""
    person, other = rng.sample(PEOPLE, 2)
    one_en, many_en, one_de, many_de = rng.choice(GOODS)
    place_en, place_de = rng.choice(PLACES)
    event_en, event_de = rng.choice(EVENTS)
    n_en, n_de = number(rng)
    p_en, p_de = price(rng)
    d_en, d_de = date(rng)
    t_en, t_de = time(rng)
    subject_de = one_de[0].upper() + one_de[1:]
    english = [
        f"{n_en} {many_en}",
        f"The {one_en} costs {p_en} .",
        f"{person} has {n_en} {many_en} .",
        f"{person} pays {p_en} for {n_en} {many_en} .",
        f"{event_en} {d_en} {t_en} .",
        f"{event_en} {t_en} .",
        f"{person} was born {d_en} .",
        f"{person} meets {other} {d_en} {place_en} .",
        f"{person} meets {other} {t_en} {place_en} .",
    ]
    german = [
        f"{n_de} {many_de}",
        f"{subject_de} kostet {p_de} .",
        f"{person} hat {n_de} {many_de} .",
        f"{person} bezahlt {p_de} für {n_de} {many_de} .",
        f"{event_de} {d_de} {t_de} .",
        f"{event_de} {t_de} .",
        f"{person} wurde {d_de} geboren .",
        f"{person} trifft {other} {d_de} {place_de} .",
        f"{person} trifft {other} {t_de} {place_de} .",
    ]
    return rng.choice(list(zip(english, german)))


def make_pairs(seed: int, sizes: Mapping[str, int]) -> Iterator[tuple[str, list[Pair]]]:
    """Yield (subset, its pairs), in the order of ``sizes``.

    No English sentence appears twice, within a subset or across them.
    """
    rng = random.Random(seed)
    seen = set()
    for subset, size in sizes.items():
        pairs: list[Pair] = []
        while len(pairs) < size:
            pair = sentence(rng)
            if pair[0] not in seen:
                seen.add(pair[0])
                pairs.append(pair)
        yield subset, pairs
