//! The log of a job: masking, output limit, sections, file. Bytes keep their order and their values; nothing
//! goes through `tracing`.

mod coverage;
mod encoding;
mod job_log;
mod limit;
mod mask;

pub use coverage::coverage;
pub use job_log::{JobLog, JobLogOptions, Tone};
pub use limit::{DEFAULT_LIMIT, Limit, Tail};
pub use mask::Masker;
