"""What Home Assistant's own integration spends on an event: `_generate_event_to_json` makes a point of a state, and its
InfluxDB client a line of the point.

The events are those of `benches/stages.rs`. Nothing around it is counted: not the event bus, not the queue and not the
request. `make bench` runs it.
"""

import json
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from time import process_time
from types import SimpleNamespace

from homeassistant.components.influxdb import _generate_event_to_json
from homeassistant.const import __version__
from homeassistant.core import State
from influxdb.line_protocol import make_lines

NOTHING = {"domains": [], "entities": [], "entity_globs": []}
OPTIONS = {
    "include": NOTHING,
    "exclude": NOTHING,
    "component_config": {},
    "component_config_domain": {},
    "component_config_glob": {},
    "tags": {},
    "tags_attributes": [],
    "ignore_attributes": [],
    "measurement_attr": "unit_of_measurement",
    "default_measurement": None,
    "override_measurement": None,
}
FIXTURES = Path(__file__).parent.parent / "tests/fixtures/hass"
NOW = datetime.now(timezone.utc)
ROUNDS = 15


def event(entity_id, state, attributes):
    state = State(entity_id, state, attributes, last_updated=NOW, validate_entity_id=False)
    return SimpleNamespace(data={"new_state": state}, time_fired=NOW)


def sensors():
    attributes = {
        "state_class": "measurement",
        "unit_of_measurement": "°C",
        "device_class": "temperature",
        "icon": "mdi:thermometer",
        "friendly_name": "Living room temperature",
    }
    for number in range(5120):
        tenths = number % 400
        yield event(f"sensor.living_room_temperature_{number * 7 % 500}", f"{tenths // 10}.{tenths % 10}", attributes)


def recorded_mix():
    states = {}
    messages = json.loads((FIXTURES / "snapshot.json").read_text()) + json.loads((FIXTURES / "array.json").read_text())
    for message in messages:
        for entity_id, added in message.get("event", {}).get("a", {}).items():
            states[entity_id] = added["s"], added["a"]
        for entity_id, change in message.get("event", {}).get("c", {}).items():
            state, attributes = states[entity_id]
            gone = change.get("-", {}).get("a", [])
            kept = {name: value for name, value in attributes.items() if name not in gone}
            new = change.get("+", {})
            states[entity_id] = new.get("s", state), kept | new.get("a", {})
            yield event(entity_id, *states[entity_id])


def lights():
    for number in range(5120):
        byte = number % 256
        attributes = {
            "friendly_name": f"Kitchen {byte}",
            "brightness": byte,
            "color_mode": "hs",
            "color_temp_kelvin": None,
            "hs_color": (byte + 0.5, 65.25),
            "rgb_color": (byte, 199, 142),
            "xy_color": (float(f"0.3{byte}"), 0.33),
            "effect": "colorloop",
            "supported_color_modes": ["color_temp", "hs"],
            "supported_features": 44,
        }
        yield event(f"light.kitchen_ceiling_{number * 7 % 500}", "on", attributes)


def spent(convert, given):
    """Microseconds of processor time for each, the median of some rounds; and what was made of them."""
    rounds = []
    for _ in range(ROUNDS):
        begin = process_time()
        made = [convert(one) for one in given]
        rounds.append((process_time() - begin) / len(given) * 1e6)
    assert all(made)
    return median(rounds), made


def line(point):
    return make_lines({"points": [point]}).encode()


print(f"Home Assistant {__version__}, microseconds of processor time per event:")
print(f"{'':28}{'event -> point':>16}{'point -> line':>16}")
for name, events in ("sensors", sensors()), ("recorded mix", recorded_mix()), ("lights, ten new attributes", lights()):
    to_point, points = spent(_generate_event_to_json(OPTIONS), list(events))
    to_line, _ = spent(line, points)
    print(f"{name:28}{to_point:16.2f}{to_line:16.2f}")
