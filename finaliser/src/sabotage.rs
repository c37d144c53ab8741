//! Faults on purpose, for the tests alone: outside their build `fail` compiles to nothing, and nothing is ever broken.

/// Whether the environment (`FAILPOINTS=POINT=return`) asks to break what the point guards, to see that a check goes red.
#[allow(unused_variables, reason = "outside the build of the tests the point is nothing")]
pub(crate) fn is_broken(point: &'static str) -> bool {
    fail::fail_point!(point, |_| true);
    false
}
