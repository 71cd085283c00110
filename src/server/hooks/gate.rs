//! The one place that decides whether what happened may run, and with how much trust.

use super::event::Event;
use crate::server::projects::{Forks, Settings};

/// What may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// A pipeline; `trusted`: with secrets, on any runner.
    Run { trusted: bool },
    /// A maintainer has to say yes first.
    Hold(String),
    /// Nothing, on purpose.
    Ignore(String),
}

/// `approved`: a maintainer has said yes to exactly this delivery. The policy is the server's, never the commit's.
pub(super) fn gate(settings: &Settings, event: &Event, approved: bool) -> Gate {
    match event {
        Event::Push(push) if push.deleted() => Gate::Ignore(format!("`{}` was deleted", push.name().0)),
        Event::Push(_) => Gate::Run { trusted: true },
        Event::Proposal(proposal) if !proposal.request.fork => Gate::Run { trusted: true },
        Event::Proposal(proposal) => {
            let iid = proposal.request.iid;
            match settings.forks {
                Forks::Ignore => Gate::Ignore(format!(
                    "merge request {iid} comes from a fork, and the project's setting `forks` is `ignore`"
                )),
                _ if proposal.sha.is_empty() => Gate::Ignore(format!(
                    "merge request {iid} comes from a fork, and the forge does not tell which commit it is at"
                )),
                Forks::Approve if !approved => Gate::Hold(format!(
                    "merge request {iid} comes from a fork: a maintainer has to approve commit {}",
                    proposal.sha
                )),
                Forks::Approve | Forks::Run => Gate::Run { trusted: false },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::engine::MergeRequest;
    use crate::server::hooks::event::{NOTHING, Proposal, Push};

    fn proposal(fork: bool, sha: &str) -> Event {
        let request = MergeRequest { iid: 7, fork, ..MergeRequest::default() };
        Event::Proposal(Proposal { request, sha: sha.to_owned(), sender: "eve".to_owned() })
    }

    fn push(after: &str) -> Event {
        let (reference, after) = ("refs/heads/main".to_owned(), after.to_owned());
        Event::Push(Push { reference, after, ..Push::default() })
    }

    #[test]
    fn no_event_of_a_fork_is_ever_trusted() {
        let sha = "a".repeat(40);
        for forks in [Forks::Ignore, Forks::Approve, Forks::Run] {
            let settings = Settings { forks, ..Settings::default() };
            for approved in [false, true] {
                let verdict = gate(&settings, &proposal(true, &sha), approved);
                assert_ne!(verdict, Gate::Run { trusted: true });
                let runs = verdict == Gate::Run { trusted: false };
                assert_eq!(
                    runs,
                    forks == Forks::Run || (forks == Forks::Approve && approved),
                    "{forks:?} {approved}"
                );
                assert!(matches!(gate(&settings, &proposal(true, ""), approved), Gate::Ignore(_)));
                assert_eq!(gate(&settings, &proposal(false, &sha), approved), Gate::Run { trusted: true });
            }
        }
    }

    #[test]
    fn deleted_refs_run_nothing() {
        let settings = Settings::default();
        assert_eq!(gate(&settings, &push(&"a".repeat(40)), false), Gate::Run { trusted: true });
        assert!(
            matches!(gate(&settings, &push(NOTHING), false), Gate::Ignore(why) if why.contains("`main`"))
        );
    }
}
