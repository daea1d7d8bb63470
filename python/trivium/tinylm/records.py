"""Records under fixed schemas, written as compact JSON next to a line of plain text.

A document is one or more pairs of a description and its record::

    Text: Ada Berg is 34 years old and lives in Oslo, Norway. Mail: ada.berg@example.org
    person: {"name":"Ada Berg","age":34,...}

The description holds every value of the record, so a model of this size can copy most of them, and
the kind in front of the colon names the schema. `SCHEMAS` holds one JSON Schema for each kind, in
the key order and with the value ranges that the generator uses.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KINDS", "SCHEMAS", "document", "pair", "stream"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST = _words(
    "Ada Alan Amir Anna Ben Carla Chen Dana David Elena Emma Felix Grace Hana Hugo Ida Ivan Jane "
    "Karim Kate Lina Lucy Marco Maria Max Nina Noah Olga Omar Paul Petra Priya Rosa Ruth Sam Tara "
    "Theo Uma Vera Yuki"
)
_LAST = _words(
    "Adler Berg Costa Dahl Evans Fischer Garcia Hansen Ito Jansen Kim Lopez Meyer Novak Okafor "
    "Patel Quinn Rossi Silva Tanaka Ueda Vogel Weber Young Zhang"
)
_CITIES = (
    ("Oslo", "Norway"),
    ("Lima", "Peru"),
    ("Rome", "Italy"),
    ("Kyoto", "Japan"),
    ("Cairo", "Egypt"),
    ("Paris", "France"),
    ("Porto", "Portugal"),
    ("Delhi", "India"),
    ("Accra", "Ghana"),
    ("Vienna", "Austria"),
    ("Lagos", "Nigeria"),
    ("Prague", "Czechia"),
)
_GOODS = _words("lamp chair table mouse cable phone clock bottle jacket helmet mirror kettle")
_UNITS = {"temperature": "C", "humidity": "%", "pressure": "hPa", "speed": "m/s"}
_ROOMS = _words("kitchen office garage cellar attic lab roof hall")
_GENRES = ("novel", "poetry", "history", "science", "travel")
_STATES = ("open", "paid", "shipped", "returned")
_LEVELS = ("debug", "info", "warning", "error")
_WORDS = _words(
    "silent golden broken little distant winter river garden stone letter island mirror"
)

_Record = dict[str, Any]


def _string(**extra: object) -> _Record:
    return {"type": "string", **extra}


def _integer(low: int, high: int) -> _Record:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(properties: _Record) -> _Record:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_DATE = _string(pattern="^20[0-9]{2}-[0-9]{2}-[0-9]{2}$")

SCHEMAS: dict[str, _Record] = {
    "person": _object(
        {
            "name": _string(),
            "age": _integer(18, 90),
            "city": _string(),
            "country": _string(),
            "email": _string(pattern="^[a-z]+\\.[a-z]+@example\\.(org|com)$"),
            "active": {"type": "boolean"},
        }
    ),
    "order": _object(
        {
            "id": _integer(1000, 9999),
            "customer": _string(),
            "items": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": _object(
                    {
                        "name": _string(enum=list(_GOODS)),
                        "count": _integer(1, 9),
                        "price": _integer(1, 99),
                    }
                ),
            },
            "state": _string(enum=list(_STATES)),
        }
    ),
    "sensor": _object(
        {
            "sensor": _string(pattern="^s[0-9]{3}$"),
            "room": _string(enum=list(_ROOMS)),
            "quantity": _string(enum=list(_UNITS)),
            "unit": _string(enum=list(_UNITS.values())),
            "values": {"type": "array", "minItems": 3, "maxItems": 5, "items": _integer(0, 99)},
            "ok": {"type": "boolean"},
        }
    ),
    "book": _object(
        {
            "title": _string(),
            "author": _string(),
            "year": _integer(1900, 2024),
            "genre": _string(enum=list(_GENRES)),
            "pages": _integer(80, 900),
            "lent": {"type": ["string", "null"]},
        }
    ),
    "event": _object(
        {
            "date": _DATE,
            "level": _string(enum=list(_LEVELS)),
            "host": _string(pattern="^node[0-9]{2}$"),
            "code": _integer(100, 599),
            "message": _string(),
        }
    ),
}
KINDS: tuple[str, ...] = tuple(SCHEMAS)


def _full_name(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def _date(rng: random.Random) -> str:
    return f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _person(rng: random.Random) -> tuple[str, _Record]:
    name = _full_name(rng)
    city, country = rng.choice(_CITIES)
    mail = f"{name.lower().replace(' ', '.')}@example.{rng.choice(('org', 'com'))}"
    age, active = rng.randint(18, 90), rng.random() < 0.7
    text = f"{name} is {age} years old and lives in {city}, {country}. Mail: {mail}"
    text += " (active)" if active else " (not active)"
    return text, {
        "name": name,
        "age": age,
        "city": city,
        "country": country,
        "email": mail,
        "active": active,
    }


def _order(rng: random.Random) -> tuple[str, _Record]:
    lines = [
        {"name": good, "count": rng.randint(1, 9), "price": rng.randint(1, 99)}
        for good in rng.sample(_GOODS, rng.randint(1, 3))
    ]
    number, who, state = rng.randint(1000, 9999), _full_name(rng), rng.choice(_STATES)
    goods = ", ".join(f"{line['count']} {line['name']} at {line['price']}" for line in lines)
    return f"Order {number} of {who}: {goods}. It is {state}.", {
        "id": number,
        "customer": who,
        "items": lines,
        "state": state,
    }


def _sensor(rng: random.Random) -> tuple[str, _Record]:
    quantity = rng.choice(list(_UNITS))
    values = [rng.randint(0, 99) for _ in range(rng.randint(3, 5))]
    name, room, ok = f"s{rng.randint(0, 999):03}", rng.choice(_ROOMS), rng.random() < 0.8
    listed = " ".join(map(str, values))
    text = f"Sensor {name} in the {room} reads {quantity} in {_UNITS[quantity]}: {listed}"
    return f"{text}, {'ok' if ok else 'not ok'}.", {
        "sensor": name,
        "room": room,
        "quantity": quantity,
        "unit": _UNITS[quantity],
        "values": values,
        "ok": ok,
    }


def _book(rng: random.Random) -> tuple[str, _Record]:
    title = " ".join(["The", *(w.capitalize() for w in rng.sample(_WORDS, 2))])
    author, year, genre = _full_name(rng), rng.randint(1900, 2024), rng.choice(_GENRES)
    pages, lent = rng.randint(80, 900), _full_name(rng) if rng.random() < 0.4 else None
    where = f"lent to {lent}" if lent else "on the shelf"
    return f"{title} by {author}, {genre} of {year}, {pages} pages, {where}.", {
        "title": title,
        "author": author,
        "year": year,
        "genre": genre,
        "pages": pages,
        "lent": lent,
    }


def _event(rng: random.Random) -> tuple[str, _Record]:
    level, host = rng.choice(_LEVELS), f"node{rng.randint(0, 99):02}"
    verb = rng.choice(("lost", "opened", "closed", "checked"))
    message = f"{verb} the {rng.choice(_WORDS)} {rng.choice(('file', 'port', 'disk', 'queue'))}"
    date, code = _date(rng), rng.randint(100, 599)
    return f"On {date} {host} {message}: {level} {code}.", {
        "date": date,
        "level": level,
        "host": host,
        "code": code,
        "message": message,
    }


_MAKERS: dict[str, Callable[[random.Random], tuple[str, _Record]]] = {
    "person": _person,
    "order": _order,
    "sensor": _sensor,
    "book": _book,
    "event": _event,
}


def pair(rng: random.Random, kind: str) -> tuple[str, str]:
    """Draw one description and its record.

    Parameters
    ----------
    rng : random.Random
        Source of randomness.
    kind : str
        One of `KINDS`.

    Returns
    -------
    prompt : str
        The description and the opening of the record line.
    record : str
        The record as compact JSON.
    """
    text, record = _MAKERS[kind](rng)
    return f"Text: {text}\n{kind}:", " " + json.dumps(record, separators=(",", ":"))


def document(rng: random.Random) -> str:
    """Draw one document: one to three pairs of the same kind.

    Parameters
    ----------
    rng : random.Random
        Source of randomness.

    Returns
    -------
    str
        The document, ending in a line feed.
    """
    kind = rng.choice(KINDS)
    return "".join(f"{''.join(pair(rng, kind))}\n" for _ in range(rng.choice((1, 1, 2, 3))))


def stream(seed: int) -> Iterator[str]:
    """Endless record documents.

    Parameters
    ----------
    seed : int
        Seed of the generator.

    Yields
    ------
    str
        Documents in the order the generator draws them.
    """
    rng = random.Random(f"trivium-records-{seed}")
    while True:
        yield document(rng)
