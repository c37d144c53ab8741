//! What anybody can check of a receipt without servers. The checks read the JSON itself, so that fields that a later
//! release adds count too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{ALGORITHM, PublicKey, Receipt, ReceiptSignature, RemoteProof, canonical_json};
use crate::{Digest, Split};

/// The result of a check, or of all checks of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptVerdict {
    /// It is as it must be.
    Holds,
    /// It is not.
    Fails,
    /// There was nothing to compare it with.
    Open,
}

/// One check of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked, in a word.
    pub what: &'static str,
    /// Whether it is as it must be.
    pub verdict: ReceiptVerdict,
    /// What was expected and what was found.
    pub said: String,
}

impl Check {
    fn holds(what: &'static str, said: impl Into<String>) -> Self {
        Self { what, verdict: ReceiptVerdict::Holds, said: said.into() }
    }

    fn fails(what: &'static str, said: impl Into<String>) -> Self {
        Self { what, verdict: ReceiptVerdict::Fails, said: said.into() }
    }

    fn open(what: &'static str, said: impl Into<String>) -> Self {
        Self { what, verdict: ReceiptVerdict::Open, said: said.into() }
    }

    fn equal<T: PartialEq + std::fmt::Display>(what: &'static str, name: &str, expected: &T, found: &T) -> Self {
        match expected == found {
            true => Self::holds(what, format!("{name} {found}")),
            false => Self::fails(what, format!("expected {name} {expected}, found {found}")),
        }
    }
}

/// Checks what a receipt says of itself: its form, its signature, whether the signer is one of `trusted`, and whether
/// its figures fit each other.
pub fn check_receipt(receipt: &Value, trusted: &[PublicKey]) -> Vec<Check> {
    let mut unsigned = receipt.clone();
    let signature = unsigned.as_object_mut().and_then(|members| members.remove("signature"));
    let message = match canonical_json(&unsigned) {
        Ok(message) => message,
        Err(error) => return vec![Check::fails("form", error.to_string())],
    };
    let read = match serde_json::from_value::<Receipt>(unsigned) {
        Ok(read) => read,
        Err(error) => return vec![Check::fails("form", format!("expected a receipt: {error}"))],
    };
    let digest = Digest::of(message.as_bytes());
    let form = format!("file {}, {} bytes in canonical form with SHA-256 {digest}", read.file_id, message.len());
    let mut checks = vec![Check::holds("form", form)];
    checks.extend(match signature {
        Some(signature) if !signature.is_null() => check_signature(&message, signature, trusted),
        _ => vec![unsigned_receipt(trusted)],
    });
    checks.extend(check_figures(&read));
    checks
}

/// Compares the size and hash of a file at hand with a receipt's.
pub fn check_data(receipt: &Value, size: u64, sha256: Digest) -> Vec<Check> {
    let known = (receipt["size"].as_u64(), receipt["sha256"].as_str().and_then(|text| text.parse::<Digest>().ok()));
    let (Some(expected_size), Some(expected)) = known else {
        return vec![Check::fails("data", "expected a receipt with size and sha256, found none")];
    };
    vec![
        Check::equal("data size", "bytes", &expected_size, &size),
        Check::equal("data hash", "SHA-256", &expected, &sha256),
    ]
}

fn unsigned_receipt(trusted: &[PublicKey]) -> Check {
    match trusted {
        [] => Check::open("signature", "none: nobody vouches for what it says"),
        _ => Check::fails("signature", "expected one by a named key, found none"),
    }
}

fn check_signature(message: &str, signature: Value, trusted: &[PublicKey]) -> Vec<Check> {
    const WHAT: &str = "signature";
    let signature: ReceiptSignature = match serde_json::from_value(signature) {
        Ok(signature) => signature,
        Err(error) => return vec![Check::fails(WHAT, format!("expected a signature: {error}"))],
    };
    if signature.algorithm != ALGORITHM {
        let said = format!("expected the algorithm {ALGORITHM}, found {:?}", signature.algorithm);
        return vec![Check::fails(WHAT, said)];
    }
    let public: PublicKey = match signature.public_key.parse() {
        Ok(public) => public,
        Err(error) => return vec![Check::fails(WHAT, error.to_string())],
    };
    let id = public.id();
    // These members are not signed, so only one form of the key is accepted.
    if signature.key_id != id || signature.public_key != public.to_string() {
        let ReceiptSignature { key_id, public_key, .. } = &signature;
        let said = format!("expected the key {id} ({public}), found {key_id:?} ({public_key:?})");
        return vec![Check::fails(WHAT, said)];
    }
    let made = STANDARD.decode(&signature.value).is_ok_and(|value| public.verifies(message.as_bytes(), &value));
    if !made {
        let said = format!("expected one by the key {id} over this receipt, found another: something was changed");
        return vec![Check::fails(WHAT, said)];
    }
    let made = Check::holds(WHAT, format!("by the key {id} ({public}) over this form"));
    let signer = match trusted {
        [] => Check::open("signer", format!("no key to compare {id} with: anybody can make a key")),
        _ if trusted.contains(&public) => Check::holds("signer", format!("the key {id} is one that was named")),
        _ => {
            let ids: Vec<_> = trusted.iter().map(PublicKey::id).collect();
            Check::fails("signer", format!("expected the key {}, found {id}", ids.join(" or ")))
        }
    };
    vec![made, signer]
}

/// Whether the figures of a receipt agree with each other, whoever signed it.
fn check_figures(receipt: &Receipt) -> Vec<Check> {
    let mut checks = Vec::new();
    match Split::new(receipt.size, receipt.chunk_size) {
        Some(split) => checks.push(Check::equal("chunks", "chunks", &split.count(), &receipt.chunks)),
        None => checks.push(Check::fails(
            "chunks",
            format!(
                "expected a size that can be split, found {} bytes in chunks of {}",
                receipt.size, receipt.chunk_size
            ),
        )),
    }
    if receipt.size == 0 {
        checks.push(Check::equal("empty", "the SHA-256 of an empty file", &Digest::of_nothing(), &receipt.sha256));
    }
    if receipt.attempts == 0 {
        checks.push(Check::fails("attempts", "expected at least one attempt, found 0"));
    }
    if let (Some(proof), Some(found)) = (RemoteProof::from_word(&receipt.remote.proof), &receipt.remote.proves) {
        checks.push(Check::equal("proof", &format!("{proof}:"), &proof.sentence(), &found.as_str()));
    }
    checks
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{SigningKey, read_json};

    fn golden() -> Value {
        read_json(include_bytes!("../../tests/golden/receipt_signed.v1.json")).unwrap()
    }

    fn key() -> SigningKey {
        include_str!("../../tests/golden/receipt_key.pem").parse().unwrap()
    }

    /// Signs whatever is in a receipt, as a later release may.
    fn signed(mut receipt: Value, key: &SigningKey) -> Value {
        receipt.as_object_mut().unwrap().remove("signature");
        let message = canonical_json(&receipt).unwrap();
        receipt["signature"] = json!({
            "algorithm": "ed25519",
            "key_id": key.public().id(),
            "public_key": key.public().to_string(),
            "value": STANDARD.encode(key.sign(message.as_bytes())),
        });
        receipt
    }

    fn failing(receipt: &Value, trusted: &[PublicKey]) -> Vec<&'static str> {
        let checks = check_receipt(receipt, trusted).into_iter();
        checks.filter(|check| check.verdict == ReceiptVerdict::Fails).map(|check| check.what).collect()
    }

    fn verdict(receipt: &Value, trusted: &[PublicKey], what: &str) -> Option<ReceiptVerdict> {
        check_receipt(receipt, trusted).into_iter().find(|check| check.what == what).map(|check| check.verdict)
    }

    /// The paths of everything in a value, as JSON pointers.
    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        let members: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(values) => {
                values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (name, value) in members {
            let at = format!("{at}/{name}");
            all.push(at.clone());
            pointers(value, &at, all);
        }
    }

    #[test]
    fn every_change_to_a_signed_receipt_is_found() {
        let (receipt, trusted) = (golden(), [key().public()]);
        assert_eq!(failing(&receipt, &trusted), [""; 0]);
        let mut all = Vec::new();
        pointers(&receipt, "", &mut all);
        assert!(all.len() > 35, "{all:?}");
        for pointer in &all {
            let mut changed = receipt.clone();
            let value = changed.pointer_mut(pointer).unwrap();
            *value = match value.take() {
                Value::String(text) => format!("{text} ").into(),
                Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
                _ => Value::Null,
            };
            assert_ne!(failing(&changed, &trusted), [""; 0], "{pointer} was changed and nothing fails");
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut less = receipt.clone();
            match less.pointer_mut(parent).unwrap() {
                Value::Object(members) => drop(members.remove(name)),
                other => *other = json!([]),
            }
            assert_ne!(failing(&less, &trusted), [""; 0], "{pointer} was removed and nothing fails");
        }
        for pointer in ["", "/remote", "/source", "/failures/0", "/signature"] {
            let mut more = receipt.clone();
            more.pointer_mut(pointer).unwrap()["more"] = json!(1);
            assert_eq!(failing(&more, &trusted), ["signature"], "{pointer} has one member more");
        }
    }

    #[test]
    fn members_that_a_later_release_adds_are_signed_too() {
        let mut later = golden();
        later["weather"] = json!({ "of": ["tomorrow", 7] });
        let mut later = signed(later, &key());
        assert_eq!(failing(&later, &[key().public()]), [""; 0]);
        later["weather"]["of"][1] = json!(8);
        assert_eq!(failing(&later, &[key().public()]), ["signature"]);
    }

    #[test]
    fn only_named_keys_vouch() {
        let (other, receipt) = (SigningKey::from_seed(&[7; 32]), golden());
        let forged = signed(receipt.clone(), &other);
        assert_eq!(failing(&forged, &[key().public()]), ["signer"]);
        assert_eq!(failing(&forged, &[key().public(), other.public()]), [""; 0], "one of several");
        // Nothing to compare with: neither right nor wrong.
        for receipt in [&receipt, &forged] {
            assert_eq!(failing(receipt, &[]), [""; 0]);
            assert_eq!(verdict(receipt, &[], "signer"), Some(ReceiptVerdict::Open));
        }
        // The key of one and the signature of the other.
        let mut mixed = forged;
        mixed["signature"]["public_key"] = json!(key().public().to_string());
        assert_eq!(failing(&mixed, &[key().public()]), ["signature"]);
        mixed["signature"]["key_id"] = json!(key().public().id());
        assert_eq!(failing(&mixed, &[key().public()]), ["signature"]);
    }

    #[test]
    fn without_a_signature_nobody_vouches() {
        for signature in [None, Some(Value::Null)] {
            let mut receipt = golden();
            let members = receipt.as_object_mut().unwrap();
            members.remove("signature");
            members.extend(
                signature.map(|signature| ("signature".to_owned(), signature)).into_iter().collect::<Map<_, _>>(),
            );
            assert_eq!(failing(&receipt, &[key().public()]), ["signature"]);
            assert_eq!(failing(&receipt, &[]), [""; 0]);
            assert_eq!(verdict(&receipt, &[], "signature"), Some(ReceiptVerdict::Open));
        }
    }

    #[test]
    fn figures_that_do_not_fit_are_found_even_if_signed() {
        let nothing = json!(Digest::of_nothing());
        for (changes, expected) in [
            (vec![("/size", json!(1_048_577))], "chunks"),
            (vec![("/chunks", json!(0))], "chunks"),
            (vec![("/chunk_size", json!(0))], "chunks"),
            (vec![("/size", json!(0)), ("/chunks", json!(0))], "empty"),
            (vec![("/attempts", json!(0))], "attempts"),
            (vec![("/remote/proof", json!("read-back"))], "proof"),
            (vec![("/sha256", json!("abc"))], "form"),
            (vec![("/file_id", json!(7))], "form"),
            (vec![("/bytes_sent", json!(0.5))], "form"),
        ] {
            let mut receipt = golden();
            for (pointer, value) in &changes {
                *receipt.pointer_mut(pointer).unwrap() = value.clone();
            }
            let receipt = match expected {
                "form" => receipt,
                _ => signed(receipt, &key()),
            };
            assert_eq!(failing(&receipt, &[key().public()]), [expected], "{changes:?}");
        }
        let mut empty = golden();
        (empty["size"], empty["chunks"], empty["sha256"]) = (json!(0), json!(0), nothing);
        assert_eq!(failing(&signed(empty, &key()), &[key().public()]), [""; 0]);
        for receipt in [json!(null), json!([]), json!("x"), json!({})] {
            assert_eq!(failing(&receipt, &[]), ["form"]);
        }
    }

    #[test]
    fn data_is_compared_by_size_and_hash() {
        let of = |size, bytes: &[u8]| {
            let checks = check_data(&golden(), size, Digest::of(bytes));
            checks.into_iter().map(|check| check.verdict == ReceiptVerdict::Holds).collect::<Vec<_>>()
        };
        assert_eq!(of(3, b"abc"), [true, true]);
        assert_eq!(of(3, b"abd"), [true, false]);
        assert_eq!(of(4, b"abc"), [false, true]);
        assert_eq!(check_data(&json!({}), 3, Digest::of(b"abc"))[0].verdict, ReceiptVerdict::Fails);
    }
}
