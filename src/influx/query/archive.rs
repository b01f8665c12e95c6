//! The files of an archive, one a day by the time of the points.

use std::io;
use std::path::{Path, PathBuf};

use super::{Found, Question, ReadError};
use crate::influx::archived::{Piece, Reader};
use crate::line::read::{Line, read};

/// Reads every file of the archive that may hold such a point.
pub(super) async fn find(folder: PathBuf, asked: &Question<'_>) -> Result<Found, ReadError> {
    let (fields, from, until) = (asked.fields.clone(), asked.from, asked.until);
    let days = days(from.as_nanos(), until.as_nanos());
    let matches = move |line: &Line| {
        (from.as_nanos()..until.as_nanos()).contains(&line.nanos)
            && line.fields.iter().any(|field| fields.contains(&(line.series.measurement.clone(), field.key.clone())))
    };
    let work = tokio::task::spawn_blocking(move || {
        let mut found = Found::new();
        for day in days {
            let path = folder.join(format!("{day}.lp.gz"));
            add(&path, &matches, &mut found)
                .map_err(|err| ReadError(format!("cannot read {}: {err}", path.display())))?;
        }
        Ok(found)
    });
    work.await.expect("reading does not panic")
}

fn add(path: &Path, matches: &impl Fn(&Line) -> bool, found: &mut Found) -> io::Result<()> {
    let mut reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    while let Some(piece) = reader.next_piece()? {
        // What is damaged is missing.
        let Piece::Lines(lines) = piece else { continue };
        for line in lines.split(|byte| *byte == b'\n').filter_map(read).filter(|line| matches(line)) {
            found.entry(line.series).or_default().push(line.nanos);
        }
    }
    Ok(())
}

/// The names of the days, in UTC.
fn days(from: i64, until: i64) -> Vec<String> {
    const DAY: i64 = 86_400_000_000_000;
    let days = from.div_euclid(DAY)..=(until - 1).div_euclid(DAY);
    let name = |day| Some(time::OffsetDateTime::from_unix_timestamp(day * 86_400).ok()?.date().to_string());
    days.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::days;

    #[test]
    fn a_period_is_in_the_files_of_its_days() {
        const DAY: i64 = 86_400_000_000_000;
        assert_eq!(days(0, DAY), ["1970-01-01"]);
        assert_eq!(days(DAY - 1, DAY + 1), ["1970-01-01", "1970-01-02"]);
    }
}
