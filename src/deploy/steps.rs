//! The steps of a deployment: each is shown when it ends, and recorded for the report.

use std::sync::{Arc, Mutex, PoisonError};
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

type Show = Box<dyn FnMut(Progress<'_>) + Send>;

/// The steps so far, and where they are shown.
pub struct Steps {
    taken: Vec<Step>,
    /// Stands before what is shown; empty for steps that are no single target's.
    prefix: String,
    show: Arc<Mutex<Show>>,
}

impl Steps {
    /// No steps yet; `show` is called at the end of each.
    pub fn new(show: impl FnMut(Progress<'_>) + Send + 'static) -> Self {
        Self { taken: Vec::new(), prefix: String::new(), show: Arc::new(Mutex::new(Box::new(show))) }
    }

    /// Steps of one target, shown with its name at the same place.
    pub fn of_target(&self, name: &str) -> Self {
        Self { taken: Vec::new(), prefix: format!("{name}: "), show: Arc::clone(&self.show) }
    }

    /// Steps of the one target that there is: no name is needed.
    pub fn of_only_target(&self) -> Self {
        Self { taken: Vec::new(), prefix: String::new(), show: Arc::clone(&self.show) }
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
        let shown = Step { name: format!("{}{}", self.prefix, step.name), ..step.clone() };
        self.show(Progress::Step(&shown));
        self.taken.push(step);
    }

    /// Says what was found or decided.
    pub fn note(&mut self, text: &str) {
        self.show(Progress::Note(&format!("{}{text}", self.prefix)));
    }

    /// The steps that were taken, in order.
    pub fn taken(&self) -> &[Step] {
        &self.taken
    }

    fn show(&self, progress: Progress<'_>) {
        let mut show = self.show.lock().unwrap_or_else(PoisonError::into_inner);
        show(progress);
    }
}
