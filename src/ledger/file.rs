//! The file: read whole and checked, appended to under a lock.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::digest::sha256_hex;
use crate::error::{CliError, CliResult};
use crate::project::{Project, state_name};
use crate::settings::State;

use super::entry::{Entry, Fact};
use super::server::Server;

/// One project's ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The state directory of the project.
    pub state: PathBuf,
}

/// Adds a fact to the ledger of the project in `directory`.
///
/// # Errors
/// The ledger can't be written, or was changed by somebody.
pub fn record(directory: &Path, fact: Fact) -> CliResult<Entry> {
    Ledger::of(directory)?.append(fact)
}

impl Ledger {
    /// The ledger of the project in `directory`: of its git work tree, else of the directory itself.
    ///
    /// # Errors
    /// There is no place for state.
    pub fn of(directory: &Path) -> CliResult<Ledger> {
        let name = match Project::discover(directory) {
            Ok(project) => project.state_name(),
            Err(_) => state_name(directory),
        };
        Ok(Ledger { state: State::of(&name)?.dir })
    }

    /// `ledger.jsonl`.
    pub fn path(&self) -> PathBuf {
        self.state.join("ledger.jsonl")
    }

    /// Where the packages lie that entries speak of, see [`Store`](crate::release::Store).
    pub fn releases(&self) -> PathBuf {
        self.state.join("releases")
    }

    /// Every entry, oldest first; none when there is no file yet.
    ///
    /// # Errors
    /// It can't be read, a line is no entry, or the chain is broken.
    pub fn entries(&self) -> CliResult<Vec<Entry>> {
        let path = self.path();
        let mut text = String::new();
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => parse(&path, &text).map(|(entries, _)| entries),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(failed("reading", &path, &e)),
        }
    }

    /// Adds a fact, durably.
    ///
    /// # Errors
    /// As [`Ledger::entries`], or the disk refuses.
    pub fn append(&self, fact: Fact) -> CliResult<Entry> {
        let entry = self.append_by(fact, who())?;
        if let Some(server) = Server::of_job() {
            server.tell(&entry.fact)?;
        }
        Ok(entry)
    }

    /// As [`Ledger::append`], in somebody's name.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn append_by(&self, fact: Fact, by: String) -> CliResult<Entry> {
        let path = self.path();
        std::fs::create_dir_all(&self.state).map_err(|e| failed("making the directory of", &path, &e))?;
        let io = |e: std::io::Error| failed("writing", &path, &e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        file.lock().map_err(io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        // a line that was cut short by a crash was never acknowledged
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (entries, previous) = parse(&path, &text[..whole])?;
        let entry = Entry {
            format: 1,
            seq: entries.last().map_or(1, |last| last.seq + 1),
            at: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
            by,
            fact,
            previous,
        };
        let mut line =
            serde_json::to_vec(&entry).map_err(|e| CliError::usage(format!("writing an entry: {e}")))?;
        line.push(b'\n');
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(io)?;
        Ok(entry)
    }
}

/// The entries, and the digest that the next one has to hold.
fn parse(path: &Path, text: &str) -> CliResult<(Vec<Entry>, String)> {
    let mut previous = String::new();
    let mut entries = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let broken = |what: String| {
            CliError::failed(format!("line {} of the ledger `{}` {what}", index + 1, path.display())).hint(
                "lines are only ever added: compare it with a copy of the file, and put the true lines back",
            )
        };
        let entry: Entry = serde_json::from_str(line).map_err(|e| broken(format!("is no entry: {e}")))?;
        if entry.previous != previous || entry.seq != index as u64 + 1 {
            return Err(broken(
                "does not follow from the line before it: one of them was changed".to_owned(),
            ));
        }
        previous = sha256_hex(line.as_bytes());
        entries.push(entry);
    }
    Ok((entries, previous))
}

fn who() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = set("GITLAB_USER_LOGIN").or_else(|| set("USER")).or_else(|| set("LOGNAME"));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}@{host}", user.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()))
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!("{doing} the ledger `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::entry::Mark;
    use super::*;

    fn mark(version: &str) -> Fact {
        Fact::Bad(Mark { environment: "prod".into(), version: version.into(), reason: "crashes".into() })
    }

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger { state: directory.path().join("state") };
        (directory, ledger)
    }

    #[test]
    fn entries_are_read_back_in_order_and_chained() {
        let (_directory, ledger) = ledger();
        assert_eq!(ledger.entries().unwrap(), []);
        let first = ledger.append(mark("1")).unwrap();
        let second = ledger.append(mark("2")).unwrap();
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!(first.previous, "");
        let text = std::fs::read_to_string(ledger.path()).unwrap();
        assert_eq!(second.previous, sha256_hex(text.lines().next().unwrap().as_bytes()));
        assert_eq!(ledger.entries().unwrap(), [first, second]);
    }

    #[test]
    fn a_changed_or_removed_line_is_noticed() {
        let (_directory, ledger) = ledger();
        for version in ["1", "2", "3"] {
            ledger.append(mark(version)).unwrap();
        }
        let text = std::fs::read_to_string(ledger.path()).unwrap();
        let without_second: String =
            text.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 1).map(|(_, line)| line).collect();
        for changed in [text.replacen("crashes", "is fine", 1), without_second] {
            std::fs::write(ledger.path(), changed).unwrap();
            assert!(ledger.entries().unwrap_err().message.contains("does not follow"));
            assert!(ledger.append(mark("4")).is_err());
        }
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_dropped() {
        let (_directory, ledger) = ledger();
        ledger.append(mark("1")).unwrap();
        let mut file = OpenOptions::new().append(true).open(ledger.path()).unwrap();
        file.write_all(b"{\"format\":1,\"se").unwrap();
        assert_eq!(ledger.entries().unwrap().len(), 1);
        ledger.append(mark("2")).unwrap();
        assert_eq!(ledger.entries().unwrap().len(), 2);
    }
}
