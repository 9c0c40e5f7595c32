//! L5: the hot path: judge a request, carry it to the app, carry the answer back.

pub mod headers;
