use contract::ProblemKind;

use crate::problem::Problem;

/// The parameters of a query, each at most once; `known` names those there are.
pub(crate) fn parameters<'a, const N: usize>(
    query: &'a str,
    known: [&str; N],
) -> Result<[Option<std::borrow::Cow<'a, str>>; N], Problem> {
    let mut values = [const { None }; N];
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(place) = known.iter().position(|name| *name == key) else {
            let key: String = key.chars().take(80).collect();
            return Err(Problem::new(
                ProblemKind::BadParameter,
                format!("expected {}, found {key:?}", known.join(", ")),
            ));
        };
        if values[place].replace(value).is_some() {
            return Err(Problem::new(ProblemKind::BadParameter, format!("expected {key} once, found it twice")));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_are_found_in_their_places() {
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
