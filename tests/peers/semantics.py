"""Answers what Python makes of a value: one JSON question a line in, one JSON answer a line out."""

import fnmatch
import json
import re
import sys

DIGIT_TAIL = re.compile(r"^[^\.]*\d+\.?\d+[^\.]*$")


def number(text):
    try:
        return repr(float(text))
    except ValueError:
        return None


def digits(text):
    return number(re.sub(r"[^\d.]+", "", text)) if DIGIT_TAIL.match(text) else None


ANSWERS = {
    "float": number,
    "digits": digits,
    "str": str,
    "lines": lambda text: " ".join(text.splitlines()),
    "glob": lambda pair: str(re.match(fnmatch.translate(pair[0]), pair[1]) is not None),
}

sys.stdout.reconfigure(encoding="utf-8")
sys.stdin.reconfigure(encoding="utf-8", newline="\n")
for question in sys.stdin.readlines():
    [kind, value] = json.loads(question)
    print(json.dumps(ANSWERS[kind](value)))
