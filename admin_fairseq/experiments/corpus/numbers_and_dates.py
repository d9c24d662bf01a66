"""Write a small English-German corpus of written-out numbers, dates, prices and times.

Every pair is composed from rules (num2words spells numbers, Babel names days, months and
currencies), so the corpus is free of licences, the same on every machine, and still a translation
task: German turns units and tens round (vierunddreißig), writes numbers in one word, inflects
dates, and counts half hours towards the next hour (halb neun is half past eight).
"""

import argparse
import datetime
import os
import random

from babel.dates import get_day_names, get_month_names
from babel.numbers import get_currency_name
from num2words import num2words

PEOPLE = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Eva",
    "Felix",
    "Greta",
    "Hugo",
    "Ida",
    "Jonas",
    "Karla",
    "Leo",
]
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


def number(rng, largest=999_999):
    """Return one number in both languages; short and long ones are equally likely."""
    value = rng.randrange(2, rng.choice([100, 1_000, 10_000, largest]) + 1)
    return num2words(value, lang="en").replace(",", ""), num2words(value, lang="de")


def price(rng):
    code, cents_en, cents_de = rng.choice(CURRENCIES)
    whole, cents = (
        rng.randrange(2, rng.choice([100, 1000, 10_000])),
        rng.choice([0, rng.randrange(2, 100)]),
    )
    names = [get_currency_name(code, count=whole, locale=locale) for locale in ("en", "de")]
    en = f"{num2words(whole, lang='en').replace(',', '')} {names[0]}"
    de = f"{num2words(whole, lang='de')} {names[1]}"
    if cents:
        en += f" and {num2words(cents, lang='en')} {cents_en}"
        de += f" und {num2words(cents, lang='de')} {cents_de}"
    return en, de


def date(rng):
    day = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))
    month_en, month_de = (
        get_month_names("wide", locale=locale)[day.month] for locale in ("en", "de")
    )
    weekday_en, weekday_de = (
        get_day_names("wide", locale=locale)[day.weekday()] for locale in ("en", "de")
    )
    ordinal_en = num2words(day.day, lang="en", to="ordinal")
    ordinal_de = num2words(day.day, lang="de", to="ordinal") + "n"
    year_en, year_de = (num2words(day.year, lang=lang, to="year") for lang in ("en", "de"))
    return (
        f"on {weekday_en} the {ordinal_en} of {month_en} {year_en}",
        f"am {weekday_de} dem {ordinal_de} {month_de} {year_de}",
    )


def time(rng):
    hour = rng.randrange(1, 12)
    at_en, next_en = (num2words(h, lang="en") for h in (hour, hour + 1))
    at_de, next_de = (num2words(h, lang="de") if h > 1 else "eins" for h in (hour, hour + 1))
    minutes = rng.randrange(2, 30)
    minutes_en, minutes_de = num2words(minutes, lang="en"), num2words(minutes, lang="de")
    return rng.choice(
        [
            (f"at half past {at_en}", f"um halb {next_de}"),
            (f"at quarter to {next_en}", f"um Viertel vor {next_de}"),
            (f"at quarter past {at_en}", f"um Viertel nach {at_de}"),
            (f"at {minutes_en} minutes past {at_en}", f"um {minutes_de} Minuten nach {at_de}"),
            (f"at {minutes_en} minutes to {next_en}", f"um {minutes_de} Minuten vor {next_de}"),
        ]
    )


def sentence(rng):
    """Return one English sentence and its German translation."""
    person, other = rng.sample(PEOPLE, 2)
    one_en, many_en, one_de, many_de = rng.choice(GOODS)
    place_en, place_de = rng.choice(PLACES)
    event_en, event_de = rng.choice(EVENTS)
    (n_en, n_de), (p_en, p_de), (d_en, d_de), (t_en, t_de) = (
        number(rng),
        price(rng),
        date(rng),
        time(rng),
    )
    return rng.choice(
        [
            (f"{n_en} {many_en}", f"{n_de} {many_de}"),
            (f"The {one_en} costs {p_en} .", f"{one_de[0].upper() + one_de[1:]} kostet {p_de} ."),
            (f"{person} has {n_en} {many_en} .", f"{person} hat {n_de} {many_de} ."),
            (
                f"{person} pays {p_en} for {n_en} {many_en} .",
                f"{person} bezahlt {p_de} für {n_de} {many_de} .",
            ),
            (f"{event_en} {d_en} {t_en} .", f"{event_de} {d_de} {t_de} ."),
            (f"{event_en} {t_en} .", f"{event_de} {t_de} ."),
            (f"{person} was born {d_en} .", f"{person} wurde {d_de} geboren ."),
            (
                f"{person} meets {other} {d_en} {place_en} .",
                f"{person} trifft {other} {d_de} {place_de} .",
            ),
            (
                f"{person} meets {other} {t_en} {place_en} .",
                f"{person} trifft {other} {t_de} {place_de} .",
            ),
        ]
    )


def make(seed, sizes):
    """Yield (split, pairs): no English sentence stands twice, within a split or across them."""
    rng = random.Random(seed)
    seen = set()
    for split, size in sizes.items():
        pairs = []
        while len(pairs) < size:
            pair = sentence(rng)
            if pair[0] not in seen:
                seen.add(pair[0])
                pairs.append(pair)
        yield split, pairs


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dest", help="folder for {train,valid,test}.{en,de}")
    parser.add_argument("--train", type=int, default=22_000, help="training pairs")
    parser.add_argument("--valid", type=int, default=500, help="validation pairs")
    parser.add_argument("--test", type=int, default=500, help="test pairs")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another corpus")
    args = parser.parse_args()

    os.makedirs(args.dest, exist_ok=True)
    # test and validation come first: they stay the same whatever the size of the training set
    sizes = {"test": args.test, "valid": args.valid, "train": args.train}
    for split, pairs in make(args.seed, sizes):
        for side, lang in enumerate(("en", "de")):
            with open(os.path.join(args.dest, f"{split}.{lang}"), "w", encoding="utf-8") as file:
                file.writelines(pair[side] + "\n" for pair in pairs)


if __name__ == "__main__":
    main()
