"""Prints what is in a recorder's database: a JSON value a row, the oldest first.

    recorder_rows.py home-assistant_v2.db

It reads the tables and nothing of Home Assistant; only the rounding of a time to microseconds is Python's own, because that
is what Home Assistant tells everybody.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from datetime import datetime, timezone

ROWS = """
    SELECT m.entity_id, s.state, s.last_updated_ts, COALESCE(s.last_changed_ts, s.last_updated_ts), a.shared_attrs
    FROM states s
    JOIN states_meta m ON m.metadata_id = s.metadata_id
    LEFT JOIN state_attributes a ON a.attributes_id = s.attributes_id
    ORDER BY s.last_updated_ts, s.state_id
"""


def micros(timestamp: float) -> int:
    moment = datetime.fromtimestamp(timestamp, timezone.utc)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def main() -> None:
    database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=30)
    for entity, state, updated, changed, attributes in database.execute(ROWS):
        row = {"entity": entity, "state": state, "updated": micros(updated), "changed": micros(changed)}
        print(json.dumps({**row, "attributes": json.loads(attributes) if attributes else {}}))


main()
