//! Work on a file under a lease: `hold` keeps the lease, `attempt` begins and ends, `retry` says when to try again.

mod attempt;
mod hold;
mod retry;

pub use attempt::{Attempt, Failure, hand_back};
pub use hold::{Ended, Fence, Holding, LeaseLost};
