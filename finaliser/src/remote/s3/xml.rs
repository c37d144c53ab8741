//! The little XML that S3 needs: an element's text, and text for an element.

/// The text of the first element of that name, whatever it is in.
pub(super) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    // `&amp;` last: what it stands for begins no other.
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#34;", "\"");
    Some(plain.replace("&apos;", "'").replace("&#39;", "'").replace("&amp;", "&"))
}

/// Text as an element may hold it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_elements() {
        let xml = "<?xml version=\"1.0\"?><A xmlns=\"x\"><Key>k</Key><UploadId>a&amp;lt;b&quot;</UploadId><E/></A>";
        assert_eq!(element(xml, "UploadId").as_deref(), Some("a&lt;b\""));
        assert_eq!(element(xml, "Key").as_deref(), Some("k"));
        assert_eq!((element(xml, "E"), element(xml, "None"), element("<Key>k", "Key")), (None, None, None));
        let text = "\"<&amp;>'";
        assert_eq!(element(&format!("<T>{}</T>", escape(text)), "T").as_deref(), Some(text));
    }
}
