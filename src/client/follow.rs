//! The log of a job as it grows.

use super::Place;
use super::server::good;
use crate::error::CliResult;
use reqwest::{Method, StatusCode};
use serde_json::Value as Json;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

/// Bytes that are asked for at once.
const AT_ONCE: u64 = 4 << 20;
/// A server that is away is asked again so often, a second apart.
const TRIES: u32 = 300;

/// The bytes of a log from `offset` on, at most a few MiB.
///
/// # Errors
/// The server's; or the connection was lost.
pub fn bytes(place: &Place, job: i64, offset: u64) -> CliResult<Vec<u8>> {
    let range = format!("bytes={offset}-{}", offset + AT_ONCE - 1);
    let path = place.path(&format!("jobs/{job}/log"));
    let answer = place.server.send(Method::GET, &path, &[("range", range)])?;
    match answer.status() {
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Vec::new()),
        // there is no file yet
        StatusCode::OK if offset > 0 => return Ok(Vec::new()),
        _ => {}
    }
    let answer = good(place.server.address(), answer)?;
    let mut bytes = Vec::new();
    answer.take(AT_ONCE).read_to_end(&mut bytes).map_err(|e| lost(&e))?;
    Ok(bytes)
}

/// Gives what a log has and gets until its job has ended. A server that goes away for a while is waited for.
/// `take` says false when nobody reads any more.
///
/// # Errors
/// The server's; or it stays away.
pub fn follow(place: &Place, job: i64, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> CliResult {
    let mut shown = 0;
    let mut failed = 0;
    loop {
        match round(place, job, &mut shown, &mut take) {
            Ok(Round::Over) => return Ok(()),
            Ok(Round::Dropped) => failed = 0,
            Err(error) if error.exit_code() != crate::error::EXIT_FAILED || failed >= TRIES => {
                return Err(error);
            }
            Err(error) => {
                if failed == 0 {
                    tracing::warn!("{error}; asking again");
                }
                failed += 1;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Gives what a log has now.
///
/// # Errors
/// The server's.
pub fn whole(place: &Place, job: i64, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> CliResult {
    // there may be no log; that there is no job is told
    status(place, job)?;
    drain(place, job, &mut 0, &mut take).map(drop)
}

enum Round {
    /// The job has ended and everything was given, or nobody reads.
    Over,
    /// The stream of events has ended before.
    Dropped,
}

/// One stream of events: each says that there is more to read.
fn round(
    place: &Place,
    job: i64,
    shown: &mut u64,
    take: &mut impl FnMut(&[u8]) -> io::Result<bool>,
) -> CliResult<Round> {
    let path = place.path(&format!("jobs/{job}/log/events?offset={shown}"));
    let answer = place.server.send(Method::GET, &path, &[])?;
    let events = BufReader::new(good(place.server.address(), answer)?);
    let mut kind = String::new();
    for line in events.lines() {
        let Ok(line) = line else { return Ok(Round::Dropped) };
        if let Some(event) = line.strip_prefix("event:") {
            event.trim().clone_into(&mut kind);
        }
        if line.is_empty() && !kind.is_empty() {
            if !drain(place, job, shown, take)? {
                return Ok(Round::Over);
            }
            if kind == "end" {
                return Ok(Round::Over);
            }
            kind.clear();
        }
    }
    Ok(Round::Dropped)
}

/// Everything that the log has; false: nobody reads.
fn drain(
    place: &Place,
    job: i64,
    shown: &mut u64,
    take: &mut impl FnMut(&[u8]) -> io::Result<bool>,
) -> CliResult<bool> {
    loop {
        let bytes = bytes(place, job, *shown)?;
        if bytes.is_empty() {
            return Ok(true);
        }
        *shown += bytes.len() as u64;
        let wanted = take(&bytes)
            .map_err(|e| crate::error::CliError::usage(format!("printing the log of job {job}: {e}")))?;
        if !wanted {
            return Ok(false);
        }
    }
}

/// The status of a job.
///
/// # Errors
/// The server's.
pub fn status(place: &Place, job: i64) -> CliResult<String> {
    let found: Json = place.server.get(&place.path(&format!("jobs/{job}")))?;
    Ok(found["status"].as_str().unwrap_or_default().to_owned())
}

fn lost(error: &io::Error) -> crate::error::CliError {
    crate::error::CliError::failed(format!("the connection was lost: {error}"))
}
