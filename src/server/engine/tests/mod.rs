//! The engine against a real database and a real repository: SQLite, or PostgreSQL with `SLIPWAY_TEST_DATABASE`.

mod api;
mod below;
mod bench;
mod life;
mod plain;
mod random;
mod resources;

pub(super) use bench::Bench;
