//! Reading XML that a server has written.

use roxmltree::{Document, ParsingOptions};

/// More than an answer of 4 MiB has that is not made of tags alone; they take about 40 MB.
const NODES: u32 = 400_000;

/// Reads a document, or says what is wrong with it.
pub(in crate::remote) fn document(text: &str) -> Result<Document<'_>, String> {
    // No DTD: what it could define is of no use here, and without end.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    // A server that needs long for its answer may begin it with white space, to show that it is alive.
    Document::parse_with_options(text.trim_start(), options).map_err(|error| error.to_string())
}
