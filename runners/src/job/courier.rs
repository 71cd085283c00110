//! Somebody who brings what a job needs from elsewhere, and takes away what it leaves: for jobs that another machine
//! planned. The attempt asks at the right moment of its course, so that what is said then stands at the right place of
//! the log, and cancelling and the job's timeout reach it.

use super::spec::JobSources;
use crate::artifacts::Index;
use crate::executor::{ExecutorError, Voice};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The way to a courier.
#[derive(Clone, Debug)]
pub struct Courier(mpsc::UnboundedSender<Errand>);

/// What a courier is asked for. It answers `done` once; what it says goes to the log, masked.
#[derive(Debug)]
pub enum Errand {
    /// Before there is a place: the sources, and the artifacts of other jobs, below [`super::Run::dir`].
    Bring {
        /// Goes to the log.
        said: Voice,
        /// The answer.
        done: oneshot::Sender<Result<Brought, ExecutorError>>,
    },
    /// After artifacts and reports were packed.
    Take {
        /// What there is, in the attempt's directory.
        index: Box<Index>,
        /// Goes to the log.
        said: Voice,
        /// The answer.
        done: oneshot::Sender<Result<(), ExecutorError>>,
    },
}

/// What was brought.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    /// In the place of [`super::Run::checkout`].
    pub checkout: PathBuf,
    /// In the place of [`super::JobSpec::sources`].
    pub sources: JobSources,
    /// In the place of [`super::Run::tracked`].
    pub tracked: Arc<Vec<String>>,
}

impl Courier {
    /// A courier who hears of errands at the other end.
    pub fn new() -> (Courier, mpsc::UnboundedReceiver<Errand>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Courier(asks), asked)
    }

    pub(super) async fn bring(&self, said: Voice) -> Result<Brought, ExecutorError> {
        let (done, answer) = oneshot::channel();
        self.ask(Errand::Bring { said, done }, answer).await
    }

    pub(super) async fn take(&self, index: Index, said: Voice) -> Result<(), ExecutorError> {
        let (done, answer) = oneshot::channel();
        self.ask(Errand::Take { index: Box::new(index), said, done }, answer).await
    }

    async fn ask<T>(
        &self,
        errand: Errand,
        answer: oneshot::Receiver<Result<T, ExecutorError>>,
    ) -> Result<T, ExecutorError> {
        let gone = |_| ExecutorError::system("sending for what the job needs", "nobody answers");
        // an errand that nobody takes is dropped with its sender: the answer says so
        let _ = self.0.send(errand);
        answer.await.map_err(gone)?
    }
}
