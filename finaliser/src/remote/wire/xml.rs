//! Reading XML that a server has written.

use roxmltree::{Document, ParsingOptions};

/// An answer of 4 MiB has fewer nodes unless it consists of tags only. So many nodes take about 40 MB.
const NODES: u32 = 400_000;

/// Reads a document, or says what is wrong with it.
pub(in crate::remote) fn document(text: &str) -> Result<Document<'_>, String> {
    // No DTD: it is of no use here, and its entities could expand without end.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    // A server that needs long for its answer may send white space first, to show that it is alive.
    Document::parse_with_options(text.trim_start(), options).map_err(|error| error.to_string())
}
