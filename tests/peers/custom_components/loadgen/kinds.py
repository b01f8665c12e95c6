"""The entities of the load generator: 18 kinds, as a home of that size has them.

`nasty` adds, to every kind alike, what makes the way from Python through JSON to line protocol hard: states that are
not values, attributes that come and go or change their type, tuples, NaN, numbers at the edge of a double, texts that
hold numbers, and texts with every character that somebody must escape.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

State = tuple[str, dict[str, Any]]
Change = tuple[str, str, dict[str, Any]]

EPOCH = datetime(2025, 1, 1, tzinfo=timezone.utc)


def _sensor(device_class: str, unit: str, value: Callable[[random.Random, int], str]) -> Callable:
    def state(r: random.Random, n: int) -> State:
        return value(r, n), {"state_class": "measurement", "unit_of_measurement": unit, "device_class": device_class}

    return state


def _power(r: random.Random, n: int) -> State:
    return f"{r.uniform(0, 3600):.1f}", {
        "unit_of_measurement": "W",
        "device_class": "power",
        "voltage": round(r.uniform(225, 240), 1),
        "current": r.uniform(0, 16),
    }


def _energy(r: random.Random, n: int) -> State:
    return f"{n * 0.017 + r.random() * 0.01:.3f}", {
        "state_class": "total_increasing",
        "unit_of_measurement": "kWh",
        "last_reset": EPOCH.isoformat(),
    }


def _on_off(device_class: str) -> Callable:
    def state(r: random.Random, n: int) -> State:
        return ("on" if n % 2 else "off"), {"device_class": device_class}

    return state


def _light(r: random.Random, n: int) -> State:
    modes = {"supported_color_modes": ["color_temp", "xy"], "supported_features": 44}
    if n % 3 == 0:
        return "off", {**modes, "color_mode": None, "brightness": None}
    return "on", {
        **modes,
        "color_mode": "xy",
        "brightness": r.randint(1, 255),
        "hs_color": [r.uniform(0, 360), r.uniform(0, 100)],
        "rgb_color": [r.randint(0, 255) for _ in range(3)],
        "xy_color": (0.32, 0.33),
    }


def _climate(r: random.Random, n: int) -> State:
    return r.choice(("heat", "off", "auto")), {
        "hvac_modes": ["heat", "off", "auto"],
        "min_temp": 7,
        "max_temp": 35.0,
        "current_temperature": round(r.uniform(15, 25), 1),
        "temperature": r.choice((20, 20.5, 21, None)),
    }


def _tracker(r: random.Random, n: int) -> State:
    return r.choice(("home", "not_home", "Bureau d'été")), {
        "source_type": "gps",
        "latitude": 48.8 + r.random() / 100,
        "longitude": 2.3 + r.random() / 100,
        "gps_accuracy": r.randint(1, 100),
    }


def _media(r: random.Random, n: int) -> State:
    return r.choice(("playing", "paused", "idle")), {
        "volume_level": round(r.random(), 2),
        "is_volume_muted": r.random() < 0.2,
        "media_title": f'Track "{n}", pt=1, a\\b é中\U0001f3b5',
        "media_artist": "O'Neill, & Sons",
        "media_position_updated_at": EPOCH + timedelta(seconds=n, microseconds=r.choice((0, 123456))),
        "source_list": ["TV", "Line-in", "Rock 'n' Roll"],
    }


def _text(r: random.Random, n: int) -> State:
    return f'line {n}, with = and \\ and "quotes" ü☃ and spaces', {"min": 0, "max": 255, "pattern": None}


def _cover(r: random.Random, n: int) -> State:
    position = r.randint(0, 100)
    return ("open" if position else "closed"), {"current_position": position, "device_class": "shutter"}


def _timestamp(r: random.Random, n: int) -> State:
    return (EPOCH + timedelta(minutes=n)).isoformat(), {"device_class": "timestamp"}


def _update(r: random.Random, n: int) -> State:
    return ("on" if n % 2 else "off"), {"installed_version": "1.2.3", "latest_version": f"1.2.{n}", "in_progress": False}


def _weather(r: random.Random, n: int) -> State:
    return r.choice(("sunny", "rainy", "cloudy")), {
        "temperature": round(r.uniform(-5, 30), 1),
        "wind_bearing": r.uniform(0, 360),
        "attribution": "nobody",
    }


# Domain, name, share of the home in per cent, what its next state is.
KINDS = [
    ("sensor", "temperature", 22, _sensor("temperature", "°C", lambda r, n: f"{r.uniform(-30, 60):.2f}")),
    ("sensor", "humidity", 12, _sensor("humidity", "%", lambda r, n: f"{r.uniform(20, 90):.1f}")),
    ("sensor", "pressure", 3, _sensor("pressure", "hPa", lambda r, n: f"{r.uniform(980, 1040):.1f}")),
    ("sensor", "illuminance", 4, _sensor("illuminance", "lx", lambda r, n: str(r.randint(0, 60000)))),
    ("sensor", "battery", 6, _sensor("battery", "%", lambda r, n: str((100 - n) % 101))),
    ("sensor", "power", 16, _power),
    ("sensor", "energy", 10, _energy),
    ("sensor", "timestamp", 2, _timestamp),
    ("binary_sensor", "motion", 9, _on_off("motion")),
    ("switch", "outlet", 4, _on_off("outlet")),
    ("light", "lamp", 4, _light),
    ("climate", "valve", 2, _climate),
    ("device_tracker", "phone", 1, _tracker),
    ("media_player", "speaker", 1, _media),
    ("input_text", "note", 1, _text),
    ("cover", "blind", 1, _cover),
    ("update", "firmware", 1, _update),
    ("weather", "station", 1, _weather),
]

NOT_VALUES = ("unavailable", "unknown", "")
# Python's float() takes them all; what is not finite no database takes.
ODD_NUMBERS = ("1_000", " 5 ", "+7", ".5", "1.", "1e5", "-0", "٣٤", "1e400", "nan", "-Infinity")
ODD_ATTRIBUTES: list[dict[str, Any]] = [
    {"odd": None},
    {"odd": True},
    {"odd": 1},
    {"odd": 1.0},
    {"odd": "1"},
    {"odd": math.nan},
    {"odd": -math.inf},
    {"odd": 9007199254740993},
    {"odd": 1e22},
    {"odd": 5e-324},
    {"odd": "Sensor 3 of 12"},
    {"odd": "v1.25"},
    {"odd": "10.0.0.1"},
    {"odd": "²"},
    {"odd": ""},
    {"odd": "two\nlines"},
    {"odd": [1, 2]},
    {"odd": [1.0, 2.0]},
    {"odd": (1, 2)},
    {"odd": (7,)},
    {"odd": ()},
    {"odd": [None, True, 1e16, 1e-5, 0.1, -0.0]},
    {"odd": {"a": {"b": [1, (2, 3)]}, "c": None}},
    {"odd": ["it's", 'say "hi"', "both ' and \"", "back\\slash"]},
    {"odd": ["tab\t", "line\nbreak", "\x07\x7f", "no\u00a0break", "zero\u200bwidth", "é中\U0001f3b5"]},
    {"value": 7, "state": "mine"},
    {"with space": 1, "with,comma": 2, "with=equals": 3, 'with"quote': 4, "é": 5},
    {},
]


def home(entities: int, seed: int, nasty: bool) -> Iterator[Change]:
    """Endless changes: every entity once in every round, each round in another order."""
    r = random.Random(seed)
    share = sum(weight for _, _, weight, _ in KINDS)
    members = [
        (f"{domain}.load_{name}_{i}", f"Load {name} {i}", next_state)
        for domain, name, weight, next_state in KINDS
        for i in range(max(1, round(entities * weight / share)))
    ]
    n = 0
    while True:
        r.shuffle(members)
        for entity_id, friendly_name, next_state in members:
            state, attributes = next_state(r, n)
            attributes = {**attributes, "friendly_name": friendly_name}
            if nasty:
                state, attributes = _worse(r, state, attributes)
            yield entity_id, state, attributes
        n += 1


def _worse(r: random.Random, state: str, attributes: dict[str, Any]) -> State:
    dice = r.random()
    if dice < 0.02:
        return r.choice(NOT_VALUES), attributes
    if dice < 0.05:
        return r.choice(ODD_NUMBERS), attributes
    if dice < 0.35:
        return state, {**attributes, **r.choice(ODD_ATTRIBUTES)}
    return state, attributes
