//! How long InfluxDB 1 keeps points: the answer of `SHOW RETENTION POLICIES`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Result>,
}

#[derive(Deserialize)]
struct Result {
    error: Option<String>,
    #[serde(default)]
    series: Vec<Policies>,
}

#[derive(Deserialize)]
struct Policies {
    columns: Vec<String>,
    #[serde(default)]
    values: Vec<Vec<Value>>,
}

/// Sets `kept` to the duration of the wanted policy, or of the default one; leaves it where points are kept for ever.
pub(super) fn read(line: &[u8], wanted: Option<&str>, kept: &mut Option<Duration>) -> std::result::Result<(), String> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let answer: Answer = serde_json::from_slice(line).map_err(|err| err.to_string())?;
    for result in answer.results {
        if let Some(error) = result.error {
            return Err(error);
        }
        for policies in result.series {
            let place = |name: &str| policies.columns.iter().position(|column| column == name);
            let (Some(name), Some(duration), Some(default)) = (place("name"), place("duration"), place("default"))
            else {
                continue;
            };
            for row in policies.values {
                let is_it = match wanted {
                    Some(wanted) => row.get(name).and_then(Value::as_str) == Some(wanted),
                    None => row.get(default) == Some(&Value::Bool(true)),
                };
                if is_it {
                    *kept = row.get(duration).and_then(Value::as_str).and_then(parse).filter(|kept| !kept.is_zero());
                }
            }
        }
    }
    Ok(())
}

/// `168h0m0s`.
fn parse(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let count: u64 = rest[..end].parse().ok()?;
        let factor = match rest.as_bytes()[end] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(factor)?)?;
        rest = &rest[end + 1..];
    }
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::read;

    #[test]
    fn the_policy_that_is_written_to_counts() {
        let answer = br#"{"results":[{"statement_id":0,"series":[{"columns":["name","duration","shardGroupDuration","replicaN","default"],"values":[["autogen","0s","168h0m0s",1,true],["week","168h0m0s","24h0m0s",1,false]]}]}]}"#;
        for (wanted, expected) in [(None, None), (Some("week"), Some(Duration::from_hours(168))), (Some("no"), None)] {
            let mut kept = None;
            read(answer, wanted, &mut kept).unwrap();
            assert_eq!(kept, expected, "{wanted:?}");
        }
        assert!(read(br#"{"results":[{"error":"database not found: x"}]}"#, None, &mut None).is_err());
    }
}
