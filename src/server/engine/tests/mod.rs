//! The engine against a real database and a real repository: SQLite, or PostgreSQL with `SLIPWAY_TEST_DATABASE`.

mod bench;
mod plain;

pub(super) use bench::Bench;
