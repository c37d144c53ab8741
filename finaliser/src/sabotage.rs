//! Deliberate faults for the tests. In other builds `fail` compiles to nothing, and nothing is ever broken.

/// Whether the environment (`FAILPOINTS=POINT=return`) asks to break what the point guards, to prove that a check can
/// fail.
#[allow(unused_variables, reason = "in other builds the fail point compiles to nothing")]
pub(crate) fn is_broken(point: &'static str) -> bool {
    fail::fail_point!(point, |_| true);
    false
}
