//! What crosses the gate in header fields, one concern a file. The order on a request is fixed:
//! [`strip`], [`hop`], then [`forwarded`] and [`identity`] (S-ID-3): what is injected last cannot
//! be named away by the client.

pub mod forwarded;
pub mod hop;
pub mod identity;
pub mod response;
pub mod strip;
pub mod trailers;
