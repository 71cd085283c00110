//! The health check of a service. The first process of its sandbox runs it: so it sees what the service sees, within
//! its limits, and ends with it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitStatus, kill_process_group};

use super::user::User;
use super::wire::{self, Status};
use super::{Check, Command, Health, first, sys};

/// Shorter than any image's interval: a job waits for the answer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Checks until one succeeds, or patience ends.
pub(super) struct Checks<'a> {
    command: Command,
    check: &'a Check,
    user: &'a User,
    socket: &'a UnixStream,
    began: Instant,
    pause: Duration,
    turn: Turn,
    told: Option<Health>,
}

/// What happens next.
enum Turn {
    CheckAt(Instant),
    EndBy {
        check: Pid,
        deadline: Instant,
    },
    /// It took too long and was killed.
    Gone {
        check: Pid,
    },
    Nothing,
}

impl<'a> Checks<'a> {
    /// `service` is the program whose variables and directory the checks have.
    pub(super) fn new(service: &Command, check: &'a Check, user: &'a User, socket: &'a UnixStream) -> Self {
        let now = Instant::now();
        let command = Command { argv: check.argv.clone(), ..service.clone() };
        Self {
            command,
            check,
            user,
            socket,
            began: now,
            pause: FIRST_PAUSE,
            turn: Turn::CheckAt(now),
            told: None,
        }
    }

    /// How long there is nothing to do; `None`: for ever.
    pub(super) fn idle(&self) -> Option<Duration> {
        let due = match self.turn {
            Turn::CheckAt(due) | Turn::EndBy { deadline: due, .. } => due,
            Turn::Gone { .. } | Turn::Nothing => return None,
        };
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Does what is due.
    pub(super) fn proceed(&mut self) {
        let now = Instant::now();
        match self.turn {
            Turn::CheckAt(due) if due <= now => self.begin(now),
            Turn::EndBy { check, deadline } if deadline <= now => {
                // it leads its own session; its end is told as any other's
                let _ended_meanwhile = kill_process_group(check, Signal::KILL);
                self.turn = Turn::Gone { check };
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Instant) {
        match sys::fork() {
            Ok(sys::Fork::Child) => {
                if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
                    // else it is in the service's log, where it harms nobody
                    let _quiet = sys::become_stream(nowhere.as_fd(), 1)
                        .and_then(|()| sys::become_stream(nowhere.as_fd(), 2));
                }
                let _why = first::execute(&self.command, self.user, None);
                sys::exit_now(127)
            }
            Ok(sys::Fork::Parent(check)) => {
                self.turn = Turn::EndBy { check, deadline: now + self.check.timeout };
            }
            Err(error) => self.failed(format!("can't be started: {error}")),
        }
    }

    /// A process has ended; perhaps it was a check.
    pub(super) fn ended(&mut self, pid: Pid, status: WaitStatus) {
        let late = match self.turn {
            Turn::EndBy { check, .. } if check == pid => false,
            Turn::Gone { check } if check == pid => true,
            _ => return,
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => {
                self.tell(Health::Healthy);
                self.turn = Turn::Nothing;
            }
            (Some(127), _) => {
                self.failed("fails with exit code 127: is its program in the image?".to_owned())
            }
            (Some(code), _) => self.failed(format!("fails with exit code {code}")),
            (None, _) if late => {
                self.failed(format!("takes longer than {} s", self.check.timeout.as_secs_f32()))
            }
            (None, signal) => self.failed(format!("was ended by signal {}", signal.unwrap_or_default())),
        }
    }

    fn failed(&mut self, why: String) {
        if self.began.elapsed() >= self.check.patience {
            self.tell(Health::Unhealthy(why));
            self.turn = Turn::Nothing;
            return;
        }
        self.tell(Health::Failing(why));
        self.turn = Turn::CheckAt(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn tell(&mut self, health: Health) {
        if self.told.as_ref() != Some(&health) {
            wire::send_status(self.socket, &Status::Health(health.clone()));
            self.told = Some(health);
        }
    }
}
