//! The log and the end of a job on their way to the server. The file on disk is the truth: the server says how much of
//! it it has, and whatever is missing is sent, however long it was away. What it says of the job on the way decides
//! whether the job is to end.

use super::job_api::{JobApi, Reply, passes};
use super::patience::Patience;
use super::verdict::Verdict;
use crate::wire::update::{JobState, JobStatus, Output, UpdateJob};
use runners::job::Cancel;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// GitLab's limit of one piece.
const PIECE: u64 = 1024 * 1024;
/// While output grows and the server has not said how often it wants to hear.
const OFTEN: Duration = Duration::from_millis(250);
/// On this machine what follows a silence is passed on so fast; each further piece waits twice as long, up to [`OFTEN`].
const AT_ONCE: Duration = Duration::from_millis(10);
/// A silent job asks so often whether it is cancelled; where the server wants to hear of the log less often than this,
/// as often as that, at most ...
const BEAT: Duration = Duration::from_secs(3);
/// ... every half minute.
const SLOW_BEAT: Duration = Duration::from_secs(30);
/// So long a job that has ended waits for a server that does not answer.
const GIVE_UP: Duration = Duration::from_secs(2 * 3600);
/// Answers that make no sense, one after the other, after which the server is believed to know no such job.
const NONSENSE: u32 = 8;
/// A log is sent anew so often, because the server has it differently.
const RESENT: u32 = 3;

/// Sends one job's log.
pub(super) struct Trace {
    api: JobApi,
    log: PathBuf,
    /// Is the server on this machine?
    local: bool,
    cancel: watch::Sender<Cancel>,
    /// So many bytes the server has.
    sent: u64,
    /// How often it wants to hear.
    interval: Option<Duration>,
    last_piece: Option<Instant>,
    /// Until the next piece to a server on this machine.
    wait: Duration,
    last_contact: Instant,
    retry_at: Option<Instant>,
    patience: Patience,
    nonsense: u32,
}

/// How it went in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The server knows all.
    Yes,
    /// It wants to hear no more of this job.
    Unwanted,
    /// It did not answer for too long.
    No,
}

/// What was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Log,
    State,
}

/// What an answer means for what was sent.
enum Heard {
    Accepted,
    /// Say it again, when it is time.
    Again,
    /// The server has so much of the log.
    Has(u64),
    /// It has another log.
    Differs,
    Gone,
}

impl Trace {
    pub(super) fn new(api: JobApi, log: PathBuf, local: bool, cancel: watch::Sender<Cancel>) -> Trace {
        let most = if local { 1 } else { 20 };
        Trace {
            api,
            log,
            local,
            cancel,
            sent: 0,
            interval: None,
            last_piece: None,
            wait: AT_ONCE,
            last_contact: Instant::now(),
            retry_at: None,
            patience: Patience::new(Duration::from_millis(100), Duration::from_secs(most)),
            nonsense: 0,
        }
    }

    /// Follows the log while the job runs, then brings the verdict. `grown` is the length of the log.
    pub(super) async fn follow(
        mut self,
        mut grown: watch::Receiver<u64>,
        mut ended: oneshot::Receiver<Verdict>,
    ) -> Delivered {
        // at once: from now on the server knows that somebody has the job
        let mut gone = self.beat().await;
        let mut listening = true;
        let verdict = loop {
            let left = grown.borrow_and_update().saturating_sub(self.sent);
            let waiting = left > 0;
            let at = match self.retry_at {
                Some(at) => at,
                // a whole piece costs as much later
                None if self.local && left >= PIECE => Instant::now(),
                None if waiting => self.last_piece.map_or_else(Instant::now, |at| at + self.pace()),
                None => self.last_contact + self.beat_every(),
            };
            tokio::select! {
                biased;
                verdict = &mut ended => break verdict,
                () = sleep_until(at), if !gone => {
                    gone = if waiting { self.piece().await } else { self.beat().await };
                }
                changed = grown.changed(), if listening && !gone => listening = changed.is_ok(),
            }
        };
        match verdict {
            _ if gone => Delivered::Unwanted,
            Ok(verdict) => self.finish(&verdict).await,
            // the job's task is gone: nobody knows how it ended
            Err(_) => Delivered::No,
        }
    }

    /// Between two pieces.
    fn pace(&self) -> Duration {
        if self.local { self.wait } else { self.interval.unwrap_or(OFTEN) }
    }

    fn beat_every(&self) -> Duration {
        let wanted = if self.local { BEAT } else { self.interval.unwrap_or(BEAT) };
        wanted.clamp(BEAT, SLOW_BEAT)
    }

    /// Says that the job goes on. True: the server does not want it any more.
    async fn beat(&mut self) -> bool {
        let running = UpdateJob { state: JobState::Running, ..UpdateJob::default() };
        let answer = self.api.update(running).await;
        matches!(self.heard(answer, Sent::State), Heard::Gone)
    }

    /// Sends what there is of the log, up to a limit. True: the server does not want it any more.
    async fn piece(&mut self) -> bool {
        let bytes = match self.read() {
            Ok(bytes) if bytes.is_empty() => {
                // the server has more than there is: only the end will show who is right
                self.last_piece = Some(Instant::now());
                return self.beat().await;
            }
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!("reading the log `{}`: {error}", self.log.display());
                self.retry_at = Some(Instant::now() + BEAT);
                return false;
            }
        };
        let (start, end) = (self.sent, self.sent + bytes.len() as u64);
        let silent = self.last_piece.is_none_or(|at| at.elapsed() > 2 * OFTEN);
        self.wait = if silent { AT_ONCE } else { (2 * self.wait).min(OFTEN) };
        let answer = self.api.append(start, bytes).await;
        self.last_piece = Some(Instant::now());
        match self.heard(answer, Sent::Log) {
            Heard::Accepted => self.sent = end,
            Heard::Has(length) => self.sent = length,
            Heard::Differs | Heard::Again => {}
            Heard::Gone => return true,
        }
        false
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.sent))?;
        let mut bytes = Vec::new();
        file.take(PIECE).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Takes in what an answer says about the job, and about what was asked.
    fn heard(&mut self, answer: Result<Reply, String>, sent: Sent) -> Heard {
        let reply = match answer {
            Ok(reply) => reply,
            Err(why) => {
                tracing::warn!("job {}: {why}", self.api.id);
                return self.again(None);
            }
        };
        if reply.interval.is_some() {
            self.interval = reply.interval;
        }
        match reply.job {
            Some(status) if status.aborts() => self.raise(Cancel::Kill),
            Some(JobStatus::Canceling) => self.raise(Cancel::Graceful),
            _ => {}
        }
        match reply.status {
            202 if sent == Sent::State => {
                self.calm();
                let wait = self.interval.unwrap_or(Duration::from_secs(1)).min(SLOW_BEAT);
                self.retry_at = Some(Instant::now() + wait);
                Heard::Again
            }
            200..300 => {
                self.calm();
                Heard::Accepted
            }
            416 if reply.stored.is_some() => {
                self.calm();
                Heard::Has(reply.stored.unwrap_or_default())
            }
            412 => Heard::Differs,
            403 | 409 => self.lost(reply.status),
            status if passes(status) => {
                tracing::warn!("job {}: the server answered {status}", self.api.id);
                self.again(reply.retry_after)
            }
            status => {
                tracing::warn!("job {}: the server answered {status}", self.api.id);
                self.nonsense += 1;
                if self.nonsense > NONSENSE { self.lost(status) } else { self.again(None) }
            }
        }
    }

    fn calm(&mut self) {
        self.last_contact = Instant::now();
        self.retry_at = None;
        self.nonsense = 0;
        self.patience.reset();
    }

    fn again(&mut self, asked: Option<Duration>) -> Heard {
        let wait = self.patience.wait(asked);
        self.retry_at = Some(Instant::now() + wait);
        Heard::Again
    }

    /// The job is not ours any more: it ends without a word.
    fn lost(&mut self, status: u16) -> Heard {
        tracing::warn!("job {} is not wanted any more: the server answered {status}", self.api.id);
        self.raise(Cancel::Kill);
        Heard::Gone
    }

    fn raise(&self, level: Cancel) {
        self.cancel.send_if_modified(|now| {
            let raised = level > *now;
            *now = level.max(*now);
            raised
        });
    }

    /// Brings the rest of the log, then the verdict.
    async fn finish(&mut self, verdict: &Verdict) -> Delivered {
        let mut give_up = Instant::now() + GIVE_UP;
        let mut resent = 0;
        while Instant::now() < give_up {
            self.until_retry().await;
            let length = std::fs::metadata(&self.log).map_or(0, |found| found.len());
            if self.sent < length {
                let before = self.last_contact;
                if self.piece().await {
                    return Delivered::Unwanted;
                }
                if self.last_contact > before {
                    give_up = Instant::now() + GIVE_UP;
                }
                continue;
            }
            // a server that insists on another log gets the verdict without the proof
            let proof = if resent < RESENT { self.proof() } else { None };
            let answer = self.api.update(UpdateJob { output: proof, ..verdict.update() }).await;
            match self.heard(answer, Sent::State) {
                Heard::Accepted => return Delivered::Yes,
                Heard::Gone => return Delivered::Unwanted,
                Heard::Again => {}
                Heard::Differs | Heard::Has(_) => {
                    resent += 1;
                    self.sent = 0;
                    if resent > RESENT {
                        return Delivered::Unwanted;
                    }
                }
            }
        }
        Delivered::No
    }

    async fn until_retry(&mut self) {
        if let Some(at) = self.retry_at.take() {
            sleep_until(at).await;
        }
    }

    /// Digest and length of the log as it is here.
    fn proof(&self) -> Option<Output> {
        let mut file = std::fs::File::open(&self.log).ok()?;
        let (mut hasher, mut length) = (crc32fast::Hasher::new(), 0);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    length += i64::try_from(n).ok()?;
                }
            }
        }
        Some(Output::new(hasher.finalize(), length))
    }
}
