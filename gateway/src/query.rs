use std::borrow::Cow;

use contract::ProblemKind;

use crate::refusal::Refusal;

/// The values of the parameters in `known`, in that order. A query may hold each of them at most once, and no others.
pub(crate) fn parameters<'a, const N: usize>(
    query: &'a str,
    known: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Refusal> {
    let mut values = [const { None }; N];
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(index) = known.iter().position(|name| *name == key) else {
            let key: String = key.chars().take(80).collect();
            return Err(Refusal::new(
                ProblemKind::BadParameter,
                format!("expected {}, found {key:?}", known.join(", ")),
            ));
        };
        if values[index].replace(value).is_some() {
            return Err(Refusal::new(ProblemKind::BadParameter, format!("expected {key} once, found it twice")));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_the_order_of_their_names() {
        let [a, b, c] = parameters("c=1%2C2&a=x+y", ["a", "b", "c"]).unwrap();
        assert_eq!((a.as_deref(), b, c.as_deref()), (Some("x y"), None, Some("1,2")));
    }

    #[test]
    fn unknown_and_repeated_ones_are_refused() {
        for query in ["d=1", "a=1&a=1", "A=1"] {
            assert!(parameters(query, ["a", "b"]).is_err(), "{query} was accepted");
        }
    }
}
