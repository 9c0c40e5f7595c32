//! L2: what operators see: logs, the access log, metrics.

pub mod access_log;
pub mod log;
pub mod metrics;
