//! The steps of a deployment: each is shown when it ends, and recorded for the report.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::Error;

/// One step that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done, to what.
    pub name: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it succeeded.
    pub ok: bool,
}

/// What is shown while a deployment goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// Something was found or decided.
    Note(&'a str),
    /// A step ended.
    Step(&'a Step),
}

/// The steps so far, and where they are shown.
pub struct Steps {
    taken: Vec<Step>,
    show: Box<dyn FnMut(Progress<'_>) + Send>,
}

impl Steps {
    /// No steps yet; `show` is called at the end of each.
    pub fn new(show: impl FnMut(Progress<'_>) + Send + 'static) -> Self {
        Self { taken: Vec::new(), show: Box::new(show) }
    }

    /// Takes a step.
    pub async fn take<T>(
        &mut self,
        name: impl Into<String>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let result = work.await;
        self.record(name.into(), began.elapsed(), result.is_ok());
        result
    }

    /// Records a step that was taken otherwise.
    pub fn record(&mut self, name: String, took: Duration, ok: bool) {
        let step = Step { name, seconds: took.as_secs_f64(), ok };
        (self.show)(Progress::Step(&step));
        self.taken.push(step);
    }

    /// Says what was found or decided.
    pub fn note(&mut self, text: &str) {
        (self.show)(Progress::Note(text));
    }

    /// The steps that were taken, in order.
    pub fn taken(&self) -> &[Step] {
        &self.taken
    }
}
