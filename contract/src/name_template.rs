use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::{Digest, FileId, ObjectName, ObjectNameError, ObjectPath, ObjectPathError, Timestamp};

/// How a remote names the files it gets: text with variables in braces, and `/` between folders.
///
/// A variable stands for part of one segment. Its value never makes a folder: a value that holds `/`, or that makes a
/// segment empty, `.` or `..`, is refused when the file is named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NameTemplate {
    text: String,
    segments: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name,
    FileId,
    Sha256,
    Year,
    Month,
    Day,
    Metadata(String),
}

/// The values of the variables for one file.
#[derive(Debug, Clone, Copy)]
pub struct NameValues<'a> {
    /// `{name}`: the name of the finalise request, else the file's own.
    pub name: &'a ObjectName,
    /// `{file_id}`.
    pub file_id: FileId,
    /// `{sha256}`, in hexadecimal digits.
    pub sha256: Digest,
    /// `{yyyy}`, `{mm}`, `{dd}`: the day of this moment in UTC.
    pub at: Timestamp,
    /// `{metadata.KEY}`: the metadata of the prepare request.
    pub metadata: &'a BTreeMap<String, String>,
}

/// A text that is not a template.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameTemplateError {
    /// A brace without its partner.
    #[error("expected {{...}} in one segment, found {0:?}")]
    Brace(String),
    /// An unknown variable.
    #[error("expected {{name}}, {{file_id}}, {{sha256}}, {{yyyy}}, {{mm}}, {{dd}} or {{metadata.KEY}}, found {{{0}}}")]
    Variable(String),
    /// A segment without variables that cannot be a name.
    #[error(transparent)]
    Segment(#[from] ObjectNameError),
}

/// Why a template gives no name for a file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NamingError {
    /// The prepare request had no metadata under that key.
    #[error("the name {template} needs metadata {key:?}, which the file does not have")]
    NoMetadata {
        /// The template.
        template: String,
        /// The key.
        key: String,
    },
    /// The result cannot be the path of a file.
    #[error("the name {template}: {source}")]
    Path {
        /// The template.
        template: String,
        /// What is wrong with it.
        source: ObjectPathError,
    },
}

impl NameTemplate {
    /// Reads a template.
    pub fn new(text: impl Into<String>) -> Result<Self, NameTemplateError> {
        let text = text.into();
        let segments = text.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { text, segments })
    }

    /// Names a file. The same values always give the same name.
    pub fn render(&self, file: &NameValues<'_>) -> Result<ObjectPath, NamingError> {
        let wrong = |source: ObjectPathError| NamingError::Path { template: self.text.clone(), source };
        let (year, month, day) = file.at.date();
        let mut names = Vec::with_capacity(self.segments.len());
        for parts in &self.segments {
            let mut segment = String::new();
            for part in parts {
                match part {
                    Part::Literal(text) => segment.push_str(text),
                    Part::Name => segment.push_str(file.name.as_str()),
                    Part::FileId => segment.push_str(&file.file_id.to_string()),
                    Part::Sha256 => segment.push_str(&file.sha256.to_string()),
                    Part::Year => segment.push_str(&format!("{year:04}")),
                    Part::Month => segment.push_str(&format!("{month:02}")),
                    Part::Day => segment.push_str(&format!("{day:02}")),
                    Part::Metadata(key) => match file.metadata.get(key) {
                        Some(value) => segment.push_str(value),
                        None => {
                            return Err(NamingError::NoMetadata { template: self.text.clone(), key: key.clone() });
                        }
                    },
                }
            }
            names.push(ObjectName::new(segment).map_err(|error| wrong(error.into()))?);
        }
        // A template has at least one segment, even if its text is empty.
        let name = names.pop().ok_or_else(|| wrong(ObjectNameError::Empty.into()))?;
        ObjectPath::new(names, name).map_err(wrong)
    }
}

impl Default for NameTemplate {
    /// `{name}`.
    fn default() -> Self {
        Self { text: "{name}".to_owned(), segments: vec![vec![Part::Name]] }
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for NameTemplate {
    type Error = NameTemplateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

fn segment(text: &str) -> Result<Vec<Part>, NameTemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, variable) = rest.split_at(at);
        let (variable, after) = variable
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .ok_or_else(|| NameTemplateError::Brace(text.to_owned()))?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        parts.push(self::variable(variable)?);
        rest = after;
    }
    if parts.is_empty() {
        // Checked now: no file's values could make it right.
        return Ok(vec![Part::Literal(ObjectName::new(rest)?.into())]);
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(parts)
}

fn variable(name: &str) -> Result<Part, NameTemplateError> {
    Ok(match name {
        "name" => Part::Name,
        "file_id" => Part::FileId,
        "sha256" => Part::Sha256,
        "yyyy" => Part::Year,
        "mm" => Part::Month,
        "dd" => Part::Day,
        _ => match name.strip_prefix("metadata.") {
            Some(key) if !key.is_empty() && !key.contains('{') => Part::Metadata(key.to_owned()),
            _ => return Err(NameTemplateError::Variable(name.to_owned())),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, name: &str, metadata: &[(&str, &str)]) -> Result<String, NamingError> {
        let name = ObjectName::new(name).unwrap();
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        // 2023-11-04T22:13:20Z
        let file = NameValues {
            name: &name,
            file_id: FileId::from_bytes([7; 16]),
            sha256: Digest::of(b"abc"),
            at: Timestamp::from_millis(1_699_136_000_000),
            metadata: &metadata,
        };
        NameTemplate::new(template).unwrap().render(&file).map(String::from)
    }

    #[test]
    fn variables_are_replaced_by_their_values() {
        assert_eq!(render("{name}", "a {b}.bin", &[]).unwrap(), "a {b}.bin");
        assert_eq!(render("{yyyy}/{mm}/{dd}/{name}", "x", &[]).unwrap(), "2023/11/04/x");
        let id = FileId::from_bytes([7; 16]);
        assert_eq!(render("in-{file_id}.{name}", "x", &[]).unwrap(), format!("in-{id}.x"));
        assert_eq!(render("{sha256}", "x", &[]).unwrap(), Digest::of(b"abc").to_string());
        let metadata = [("tenant", "ACME & co"), ("a.b", "{name}")];
        assert_eq!(render("{metadata.tenant}/{metadata.a.b}/{name}", "x", &metadata).unwrap(), "ACME & co/{name}/x");
        assert_eq!(NameTemplate::default(), NameTemplate::new("{name}").unwrap());
    }

    #[test]
    fn no_value_leads_to_another_folder() {
        for value in ["..", ".", "", "a/b", "../../etc", "/", "a\0", &"x".repeat(256)] {
            let named = render("{metadata.tenant}/{name}", "x", &[("tenant", value)]);
            assert!(matches!(named, Err(NamingError::Path { .. })), "{value:?}: {named:?}");
        }
        // Each half is a name; together they are `..`.
        assert!(render("{metadata.dot}{metadata.dot}/{name}", "x", &[("dot", ".")]).is_err());
        assert_eq!(render("{metadata.tenant}..x/{name}", "x", &[("tenant", "..")]).unwrap(), "....x/x");
        assert!(matches!(render("{metadata.no}", "x", &[]), Err(NamingError::NoMetadata { .. })));
        let long = "x".repeat(250);
        assert!(render("{name}/{name}/{name}/{name}/{name}", &long, &[]).is_err());
    }

    #[test]
    fn a_wrong_template_is_refused_at_once() {
        for text in [
            "",
            "/",
            "/{name}",
            "{name}/",
            "a//{name}",
            "../{name}",
            "./{name}",
            "a/..",
            "{",
            "}",
            "{name",
            "name}",
            "{}",
            "{NAME}",
            "{ name }",
            "{metadata}",
            "{metadata.}",
            "{{name}}",
            "{metadata.a/b}",
            "a\0b",
            "{hh}",
        ] {
            assert!(NameTemplate::new(text).is_err(), "{text:?} was accepted");
        }
    }
}
