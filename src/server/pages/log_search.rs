//! Search in a log: the browser has a few hundred lines of it, the server all.

use crate::server::access::Actor;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader};

/// Lines that one answer names; all are counted.
const MANY: usize = 1000;
/// Bytes of a line that are searched.
const LONGEST: usize = 64 << 10;

/// What is searched for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    q: String,
}

/// Lines that hold the text.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    /// Numbers of the first of them, from 1.
    lines: Vec<u64>,
    /// How many there are.
    count: u64,
}

/// `GET /projects/{project}/jobs/{job}/search?q=TEXT`
pub(super) async fn search(
    State(app): State<App>,
    _actor: Actor,
    Path((name, id)): Path<(String, i64)>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Found>> {
    let project = app.project(&name).await?;
    let job = app.job(project.id, id).await?;
    let path = app.dir("logs").join(format!("{}.log", job.id));
    let found = tokio::task::spawn_blocking(move || match std::fs::File::open(path) {
        Ok(file) => find(BufReader::with_capacity(256 << 10, file), &asked.q),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::default()),
        Err(error) => Err(error),
    });
    let found = found.await.map_err(|e| Problem::internal("searching a log", &e))?;
    Ok(Json(found.map_err(|e| Problem::internal("searching a log", &e))?))
}

/// Lines with the text, whatever the case of ASCII letters; colours are no part of a line.
fn find(mut log: impl BufRead, text: &str) -> io::Result<Found> {
    let wanted = text.to_ascii_lowercase().into_bytes();
    let mut found = Found::default();
    if wanted.is_empty() {
        return Ok(found);
    }
    let (mut line, mut plain, mut number) = (Vec::new(), Vec::new(), 0);
    let mut over = false;
    while !over {
        line.clear();
        over = next(&mut log, &mut line)?;
        if over && line.is_empty() {
            break;
        }
        number += 1;
        strip(&line, &mut plain);
        if holds(&plain, &wanted) {
            found.count += 1;
            if found.lines.len() < MANY {
                found.lines.push(number);
            }
        }
    }
    Ok(found)
}

/// The next line, cut at [`LONGEST`]; true: it is the last.
fn next(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let piece = log.fill_buf()?;
        if piece.is_empty() {
            return Ok(true);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let text = &piece[..end.unwrap_or(piece.len())];
        line.extend_from_slice(&text[..text.len().min(LONGEST - line.len())]);
        let used = text.len() + usize::from(end.is_some());
        log.consume(used);
        if end.is_some() {
            return Ok(false);
        }
    }
}

/// Lower case, without escape sequences.
fn strip(line: &[u8], plain: &mut Vec<u8>) {
    plain.clear();
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != 0x1b {
            plain.push(byte.to_ascii_lowercase());
            continue;
        }
        // `ESC [ … letter`; of others only the letter after ESC goes
        if bytes.next() == Some(b'[') {
            for byte in bytes.by_ref() {
                if (0x40..=0x7e).contains(&byte) {
                    break;
                }
            }
        }
    }
}

fn holds(line: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &str, text: &str) -> Vec<u64> {
        find(log.as_bytes(), text).unwrap().lines
    }

    #[test]
    fn lines_are_found_whatever_their_case_and_colour() {
        let log = "one\n\x1b[31mErr\x1b[0mor: two\nthree error";
        assert_eq!(lines(log, "ERROR"), [2, 3]);
        assert_eq!(lines(log, "31m"), Vec::<u64>::new());
        assert_eq!(lines(log, ""), Vec::<u64>::new());
        assert_eq!(lines("aab\n", "ab"), [1]);
    }

    #[test]
    fn all_are_counted_and_some_are_named() {
        let found = find("x\n".repeat(MANY + 5).as_bytes(), "x").unwrap();
        assert_eq!((found.lines.len(), found.count), (MANY, MANY as u64 + 5));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let log = [vec![b'a'; LONGEST + 10], b"needle\nneedle".to_vec()].concat();
        assert_eq!(find(log.as_slice(), "needle").unwrap().lines, [2]);
    }
}
