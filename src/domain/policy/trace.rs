//! What every rule said, for `explain`: nothing on the hot path.

/// Told about each rule that was looked at. The hot path's sink does nothing and costs nothing.
pub trait TraceSink {}

impl TraceSink for () {}
