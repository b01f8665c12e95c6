"""Answers what Home Assistant makes of a state, of a filter or of a block `influxdb:`: one JSON question a line in, one JSON answer a line out.

It runs Home Assistant's own code and adds what release 2025.4 does not do yet or leaves to its InfluxDB clients:

- line breaks in texts become spaces, and a number named `time` is renamed (both since 2026);
- what is not a text becomes one, tags without a value are left out, and so is a value that is not finite.
"""

from functools import cache
import json
import math
import sys
from types import SimpleNamespace

from homeassistant.components.influxdb import CONFIG_SCHEMA, _generate_event_to_json
from homeassistant.core import State
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entityfilter import generate_filter
from homeassistant.util.yaml import load_yaml_dict, parse_yaml
import voluptuous


@cache
def converter(options):
    nothing = {"domains": [], "entities": [], "entity_globs": []}
    per_entity = {"component_config": {}, "component_config_domain": {}, "component_config_glob": {}}
    return _generate_event_to_json({"include": nothing, "exclude": nothing, **per_entity, **json.loads(options)})


def checked(configuration):
    # Home Assistant takes an integration without any option for one with none.
    return CONFIG_SCHEMA({"influxdb": configuration["influxdb"] or {}})["influxdb"]


@cache
def converter_of_block(file):
    return _generate_event_to_json(checked(load_yaml_dict(file)))


def tags(text):
    try:
        return sorted([key, value] for key, value in checked(parse_yaml(text))["tags"].items())
    except (voluptuous.Invalid, HomeAssistantError):
        return None


def one_line(value):
    return " ".join(str(value).splitlines())


def point(question):
    state = State(question["entity_id"], question["state"], question["attributes"], validate_entity_id=False)
    event = SimpleNamespace(data={"new_state": state}, time_fired=state.last_updated)
    block = question.get("block")
    make = converter_of_block(block) if block else converter(json.dumps(question["options"]))
    made = make(event)
    if made is None:
        return None
    tags = {key: one_line(value) for key, value in made["tags"].items() if value is not None}
    fields = made["fields"]
    if "time" in fields:
        name = "time_"
        while name in fields:
            name += "_"
        fields[name] = fields.pop("time")
    return {
        "measurement": one_line(made["measurement"]),
        "tags": sorted([key, value] for key, value in tags.items() if value),
        "fields": sorted(
            [key, one_line(value) if isinstance(value, str) else value]
            for key, value in fields.items()
            if isinstance(value, str) or math.isfinite(value)
        ),
    }


def allowed(question):
    lists = (question[f"{side}_{kind}"] for kind in ("domains", "entities", "globs") for side in ("include", "exclude"))
    include_domains, exclude_domains, include, exclude, include_globs, exclude_globs = lists
    accepts = generate_filter(include_domains, include, exclude_domains, exclude, include_globs, exclude_globs)
    return bool(accepts(question["entity_id"]))


sys.stdout.reconfigure(encoding="utf-8")
sys.stdin.reconfigure(encoding="utf-8", newline="\n")
for line in sys.stdin.readlines():
    asked = json.loads(line)
    if "text" in asked:
        print(json.dumps(tags(asked["text"])))
    else:
        print(json.dumps(point(asked) if "state" in asked else allowed(asked)))
