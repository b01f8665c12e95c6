//! The two questions in SQL that a story needs, token by token, and their answers in lines of JSON.

use std::collections::{BTreeMap, BTreeSet};

use ha_ingestor::model::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::points::{Field, Points};

pub struct Rows {
    /// And not of columns.
    pub of_points: bool,
    pub rows: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A key word, a name without quotes, or a sign.
    Word(String),
    Name(String),
    Text(String),
}

/// What is left of the question.
struct Rest(std::vec::IntoIter<Token>);

fn tokens(question: &str) -> Result<Rest, String> {
    let mut tokens = Vec::new();
    let mut rest = question.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => {
                let (text, length) = quoted(rest, first)?;
                tokens.push(if first == '"' { Token::Name(text) } else { Token::Text(text) });
                length
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_lowercase()));
                end
            }
            '>' if rest.starts_with(">=") => {
                tokens.push(Token::Word(">=".to_owned()));
                2
            }
            sign => {
                tokens.push(Token::Word(sign.to_string()));
                sign.len_utf8()
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(Rest(tokens.into_iter()))
}

/// What is between the quotes, and how long it is with them.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut inner = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            inner.push(letter);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            inner.push(quote);
        } else {
            return Ok((inner, at + 1));
        }
    }
    Err(format!("sql parser error: unterminated {quote}"))
}

impl Rest {
    /// Words, with blanks between them.
    fn take(&mut self, words: &str) -> Result<(), String> {
        for word in words.split_whitespace() {
            match self.0.next() {
                Some(Token::Word(own)) if own == word => {}
                other => return Err(format!("sql parser error: expected {word}, found {other:?}")),
            }
        }
        Ok(())
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.0.as_slice().first() == Some(&Token::Word(word.to_owned()));
        if is_next {
            self.0.next();
        }
        is_next
    }

    fn name(&mut self) -> Result<String, String> {
        match self.0.next() {
            Some(Token::Name(name)) => Ok(name),
            other => Err(format!("sql parser error: expected a quoted name, found {other:?}")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.0.next() {
            Some(Token::Text(text)) => Ok(text),
            other => Err(format!("sql parser error: expected a text, found {other:?}")),
        }
    }

    fn moment(&mut self) -> Result<i64, String> {
        self.take("timestamp")?;
        let text = self.text()?;
        Ok(Timestamp::from_rfc3339(&text).ok_or_else(|| format!("error parsing timestamp from '{text}'"))?.as_nanos())
    }

    fn end(&mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |more| Err(format!("sql parser error: unexpected {more:?}")))
    }
}

/// The kinds of the columns of a table.
fn columns(table: &str, points: &Points) -> BTreeMap<String, &'static str> {
    let mut columns = BTreeMap::new();
    for (place, fields) in points.iter().filter(|(place, _)| place.series.measurement == table) {
        columns.insert("time".to_owned(), "Timestamp(Nanosecond, None)");
        columns.extend(place.series.tags.keys().map(|tag| (tag.clone(), "Dictionary(Int32, Utf8)")));
        columns.extend(fields.iter().map(|(name, field)| {
            let kind = match field {
                Field::Boolean(_) => "Boolean",
                Field::Number(_) => "Float64",
                Field::Text(_) => "Utf8",
            };
            (name.clone(), kind)
        }));
    }
    columns
}

pub fn answer(question: &str, points: &Points) -> Result<Rows, String> {
    let mut rest = tokens(question)?;
    rest.take("select")?;
    if rest.takes("table_name") { of_columns(rest, points) } else { of_points(rest, points) }
}

fn of_columns(mut rest: Rest, points: &Points) -> Result<Rows, String> {
    rest.take(", column_name , data_type from information_schema . columns where table_schema =")?;
    if rest.text()? != "iox" {
        return Err("our tables are in the schema iox".to_owned());
    }
    rest.take("and table_name in (")?;
    let mut tables = BTreeSet::from([rest.text()?]);
    while rest.takes(",") {
        tables.insert(rest.text()?);
    }
    rest.take(")")?;
    rest.end()?;
    let mut rows = String::new();
    for table in tables {
        for (name, kind) in columns(&table, points) {
            rows += &json!({"table_name": table, "column_name": name, "data_type": kind}).to_string();
            rows.push('\n');
        }
    }
    Ok(Rows { of_points: false, rows })
}

fn of_points(mut rest: Rest, points: &Points) -> Result<Rows, String> {
    rest.take("cast ( time as bigint ) as")?;
    let time = rest.name()?;
    let mut selected = Vec::new();
    while rest.takes(",") {
        selected.push(rest.name()?);
    }
    rest.take("from")?;
    let table = rest.name()?;
    rest.take("where time >=")?;
    let from = rest.moment()?;
    rest.take("and time <")?;
    let until = rest.moment()?;
    rest.take("and (")?;
    let mut wanted = Vec::new();
    loop {
        wanted.push(rest.name()?);
        rest.take("is not null")?;
        if !rest.takes("or") {
            break;
        }
    }
    rest.take(")")?;
    rest.end()?;
    let known = columns(&table, points);
    if known.is_empty() {
        return Err(format!("Error during planning: table 'public.iox.{table}' not found"));
    }
    if let Some(unknown) = selected.iter().chain(&wanted).find(|name| !known.contains_key(*name)) {
        return Err(format!("Schema error: No field named {unknown:?}"));
    }
    let mut rows = String::new();
    for (place, fields) in points {
        let is_within = place.series.measurement == table && (from..until).contains(&place.time);
        let tags = &place.series.tags;
        if !is_within || !wanted.iter().any(|name| fields.contains_key(name) || tags.contains_key(name)) {
            continue;
        }
        // What is null is left out.
        let mut row = Map::from_iter([(time.clone(), Value::from(place.time))]);
        row.extend(selected.iter().filter_map(|name| Some((name.clone(), Value::from(tags.get(name)?.as_str())))));
        rows += &Value::Object(row).to_string();
        rows.push('\n');
    }
    Ok(Rows { of_points: true, rows })
}

#[test]
fn what_is_no_sql_is_not_understood() {
    let place = |name: &str| crate::points::Place {
        series: crate::points::Series { measurement: name.to_owned(), tags: [("a\"b".into(), "x".into())].into() },
        time: 1_000,
    };
    let points = Points::from([(place("it's"), [("v".to_owned(), Field::Number(1.0))].into())]);
    let of_columns = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'iox' AND table_name IN ('it''s')";
    let of_points = r#"SELECT CAST(time AS BIGINT) AS "__nanos", "a""b" FROM "it's" WHERE time >= TIMESTAMP '1970-01-01T00:00:00Z' AND time < TIMESTAMP '1970-01-01T00:00:01Z' AND ("v" IS NOT NULL)"#;
    assert_eq!(answer(of_columns, &points).unwrap().rows.lines().count(), 3);
    assert_eq!(answer(of_points, &points).unwrap().rows, "{\"__nanos\":1000,\"a\\\"b\":\"x\"}\n");
    for (from, to) in [("''s", "'s"), ("iox", "public"), ("'it''s'", "\"it''s\"")] {
        assert!(answer(&of_columns.replace(from, to), &points).is_err(), "{from} {to}");
    }
    for (from, to) in [("a\"\"b", "a\"b"), ("\"v\"", "\"w\""), ("it's", "its"), (" NOT ", " "), ("TIMESTAMP", "")] {
        assert!(answer(&of_points.replace(from, to), &points).is_err(), "{from} {to}");
    }
}
