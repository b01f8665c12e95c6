"""Answers what Home Assistant makes of a number in another unit: one JSON question a line in, one JSON answer a line out.

The answer is null if none of its converters knows both units.
"""

import json
import sys

from homeassistant.util import unit_conversion

CONVERTERS = [
    converter
    for converter in vars(unit_conversion).values()
    if isinstance(converter, type)
    and issubclass(converter, unit_conversion.BaseUnitConverter)
    and hasattr(converter, "VALID_UNITS")
]


def converted(number, old, new):
    for converter in CONVERTERS:
        if {old, new} <= converter.VALID_UNITS:
            return converter.convert(number, old, new)
    return None


sys.stdout.reconfigure(encoding="utf-8")
sys.stdin.reconfigure(encoding="utf-8", newline="\n")
for line in sys.stdin.readlines():
    print(json.dumps(converted(*json.loads(line))))
