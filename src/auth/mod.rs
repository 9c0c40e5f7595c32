//! The ceremonies, without HTTP: signing in, confirming, stepping up, enrolling, handing over.
//! Only this room decides that something was shown; what it is worth is `domain`'s to say.

pub mod device;
pub mod error;
pub mod factors;
pub mod plan;
pub mod proof;
pub mod return_to;
pub mod throttle;

pub use error::AuthError;
pub use return_to::ReturnTo;
