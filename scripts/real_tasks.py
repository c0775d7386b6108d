"""Questions with short answers that small published models half know, for studies with them.

    python scripts/real_tasks.py FOLDER          # FOLDER/TASK/{train,validation,test}.jsonl: question, answer

Facts of countries come from `countryinfo` (MIT; pip install countryinfo==1.0.1), the rest is made here. A question
belongs to a part by its hash: the same in every run, and no question is in two parts.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

OPPOSITES = """
hot cold, up down, big small, happy sad, early late, rich poor, fast slow, hard soft, full empty, light dark, open
closed, win lose, buy sell, push pull, first last, love hate, young old, tall short, wet dry, clean dirty, deep
shallow, wide narrow, thick thin, strong weak, loud quiet, brave cowardly, cheap expensive, near far, inside outside,
above below, begin end, accept reject, arrive depart, attack defend, borrow lend, build destroy, create destroy,
increase decrease, import export, include exclude, internal external, major minor, maximum minimum, optimist
pessimist, positive negative, public private, rural urban, safe dangerous, simple complex, success failure, temporary
permanent, victory defeat, visible invisible, ancient modern, artificial natural, asleep awake, bitter sweet, bless
curse, blunt sharp, bottom top, captive free, comedy tragedy, common rare, compulsory voluntary, conceal reveal,
correct incorrect, day night, dead alive, deny admit, difficult easy, discourage encourage, east west, enemy friend,
entrance exit, even odd, expand contract, fact fiction, fail succeed, false true, female male, float sink, foolish
wise, forget remember, generous selfish, gentle rough, giant dwarf, guilty innocent, heaven hell, heavy light, hero
villain, high low, hollow solid, honest dishonest, horizontal vertical, humble proud, joy sorrow, junior senior, king
queen, knowledge ignorance, laugh cry, lazy hardworking, left right, legal illegal, liquid solid, long short, loose
tight, mature immature, noisy silent, north south, obey disobey, patient impatient, peace war, perfect imperfect,
plural singular, polite rude, possible impossible, praise criticize, present absent, profit loss, question answer,
raise lower, raw cooked, real fake, regular irregular, rise fall, same different, seldom often, sharp dull, sick
healthy, smile frown, smooth rough, sour sweet, spend save, stale fresh, start stop, straight crooked, summer winter,
sunrise sunset, teach learn, throw catch, tiny huge, truth lie, ugly beautiful, unite divide, useful useless, vacant
occupied, vague clear, wealth poverty, whole part, work play, zenith nadir
"""
ELEMENTS = """
Hydrogen H Helium He Lithium Li Beryllium Be Boron B Carbon C Nitrogen N Oxygen O Fluorine F Neon Ne Sodium Na
Magnesium Mg Aluminum Al Silicon Si Phosphorus P Sulfur S Chlorine Cl Argon Ar Potassium K Calcium Ca Scandium Sc
Titanium Ti Vanadium V Chromium Cr Manganese Mn Iron Fe Cobalt Co Nickel Ni Copper Cu Zinc Zn Gallium Ga Germanium Ge
Arsenic As Selenium Se Bromine Br Krypton Kr Rubidium Rb Strontium Sr Yttrium Y Zirconium Zr Niobium Nb Molybdenum Mo
Technetium Tc Ruthenium Ru Rhodium Rh Palladium Pd Silver Ag Cadmium Cd Indium In Tin Sn Antimony Sb Tellurium Te
Iodine I Xenon Xe Cesium Cs Barium Ba Lanthanum La Cerium Ce Praseodymium Pr Neodymium Nd Promethium Pm Samarium Sm
Europium Eu Gadolinium Gd Terbium Tb Dysprosium Dy Holmium Ho Erbium Er Thulium Tm Ytterbium Yb Lutetium Lu Hafnium Hf
Tantalum Ta Tungsten W Rhenium Re Osmium Os Iridium Ir Platinum Pt Gold Au Mercury Hg Thallium Tl Lead Pb Bismuth Bi
Polonium Po Astatine At Radon Rn Francium Fr Radium Ra Actinium Ac Thorium Th Protactinium Pa Uranium U Neptunium Np
Plutonium Pu Americium Am Curium Cm
"""
UNITS = [  # from, to, factor
    ("meters", "centimeters", 100), ("kilometers", "meters", 1000), ("feet", "inches", 12), ("yards", "feet", 3),
    ("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7),
    ("years", "months", 12), ("kilograms", "grams", 1000), ("liters", "milliliters", 1000), ("dollars", "cents", 100),
    ("gallons", "quarts", 4), ("pounds", "ounces", 16), ("decades", "years", 10), ("dozens of eggs", "eggs", 12),
    ("centimeters", "millimeters", 10), ("quarts", "pints", 2), ("tons", "kilograms", 1000),
    ("centuries", "years", 100),
]  # fmt: skip
NUMBER = "Answer with the number only."
Pair = tuple[str, str]


def countries() -> list:
    """What `countryinfo` knows of each country of some size."""
    try:
        from countryinfo import all_countries
    except ImportError:
        raise SystemExit("Questions of countries need countryinfo: pip install countryinfo==1.0.1") from None
    large = [one for one in all_countries() if (one.population() or 0) >= 300_000 and one.capital() and one.region()]
    return sorted(large, key=lambda one: one.name())


def capitals() -> Iterator[Pair]:
    for one in countries():
        yield f"What is the capital of {one.name()}? Answer with the name of the city only.", one.capital()


def continents() -> Iterator[Pair]:
    for one in countries():
        question = (
            f"On which continent is {one.name()}: Africa, America, Asia, Europe or Oceania? Answer with one word."
        )
        yield question, {"Americas": "America"}.get(one.region(), one.region())


def opposites() -> Iterator[Pair]:
    for pair in OPPOSITES.replace("\n", " ").split(","):
        one, other = pair.split()
        yield f"What is the opposite of the word '{one}'? Answer with one word.", other


def elements() -> Iterator[Pair]:
    words = ELEMENTS.split()
    for name, symbol in zip(words[::2], words[1::2], strict=True):
        yield f"What is the chemical symbol of {name.lower()}? Answer with the symbol only.", symbol


def facts() -> Iterator[Pair]:
    """Of three kinds, of which each model knows others."""
    yield from capitals()
    yield from elements()
    yield from opposites()


def sums() -> Iterator[Pair]:
    draw = random.Random(0)
    for _ in range(600):
        a, b = draw.randint(12, 99), draw.randint(12, 99)
        yield f"What is {a} + {b}? {NUMBER}", str(a + b)


def differences() -> Iterator[Pair]:
    draw = random.Random(1)
    for _ in range(600):
        b, difference = draw.randint(12, 99), draw.randint(3, 99)
        yield f"What is {b + difference} - {b}? {NUMBER}", str(difference)


def products() -> Iterator[Pair]:
    draw = random.Random(2)
    for _ in range(600):
        a, b = draw.randint(3, 19), draw.randint(3, 19)
        yield f"What is {a} * {b}? {NUMBER}", str(a * b)


def units() -> Iterator[Pair]:
    for one, other, factor in UNITS:
        for n in range(2, 26):
            yield f"How many {other} are in {n} {one}? {NUMBER}", str(n * factor)


def stories() -> Iterator[Pair]:
    """One step of arithmetic in words."""
    draw = random.Random(3)
    names = ["Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry"]
    things = ["apples", "books", "coins", "marbles", "pencils", "stamps", "cards", "shells"]
    for _ in range(600):
        a, b = draw.randint(4, 60), draw.randint(3, 40)
        name, thing = draw.choice(names), draw.choice(things)
        text, answer = draw.choice(
            [
                (f"{name} has {a} {thing} and gets {b} more.", a + b),
                (f"{name} had {a + b} {thing} and gave away {b}.", a),
                (f"{name} has {a % 12 + 2} boxes with {b % 12 + 2} {thing} in each.", (a % 12 + 2) * (b % 12 + 2)),
            ]
        )
        yield f"{text} How many {thing} does {name} have? {NUMBER}", str(answer)


WORDS = (capitals, continents, opposites, elements, facts)
NUMBERS = (sums, differences, products, units, stories)
TASKS = {f.__name__: f for f in WORDS + NUMBERS}


def parts(task: str) -> dict[str, list[dict]]:
    """The questions of a task: half to train on, a quarter each for choosing settings and for the result."""
    out: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for question, answer in dict(TASKS[task]()).items():
        digit = hashlib.sha256(question.encode()).digest()[0]
        part = "train" if digit < 128 else "validation" if digit < 192 else "test"
        out[part].append({"question": question, "answer": answer})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    for task in args.tasks:
        for part, rows in parts(task).items():
            file = args.folder / task / f"{part}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        print(task, {part: len(rows) for part, rows in parts(task).items()})


if __name__ == "__main__":
    main()
