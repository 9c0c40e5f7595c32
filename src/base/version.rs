//! Which program is this? For `--version`, the log, `/readyz` and the metrics, all in the same words.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Twelve digits of the commit; empty in a debug build and where nobody said it (`build.rs`).
pub const COMMIT: &str = env!("STEPGATE_COMMIT");

/// `0.1.0 (a1b2c3d4e5f6)`.
#[must_use]
pub fn full() -> &'static str {
    if COMMIT.is_empty() {
        concat!(env!("CARGO_PKG_VERSION"), " (commit unknown)")
    } else {
        concat!(env!("CARGO_PKG_VERSION"), " (", env!("STEPGATE_COMMIT"), ")")
    }
}
