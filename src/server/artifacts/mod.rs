//! Artifacts of jobs: content-addressed files in `data/blobs`, rows in `artifacts`.
//!
//! | module | what |
//! |---|---|
//! | [`blobs`] | the files |
//! | [`browse`] | what is in an archive |
//! | [`junit`] | test reports |
//! | [`routes`] | the API |
//! | [`sweep`] | what has expired goes |

pub mod blobs;
pub mod browse;
pub mod junit;
pub mod routes;
pub mod sweep;
