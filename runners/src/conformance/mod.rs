//! One behavioural suite for all executors.
