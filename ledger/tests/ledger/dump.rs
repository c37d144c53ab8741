//! Importing users that mongodump wrote.

use std::io::Write;
use std::path::Path;

use ledger::{Authentication, DumpError, Imported, NewUser};
use mongodb::bson::{Document, doc};

use crate::stage::Stage;

const PASSWORD: &str = "correct horse";

fn all_taken(added: u64, replaced: u64) -> Imported {
    Imported { added, replaced, refused: Vec::new() }
}

fn bcrypt() -> String {
    bcrypt::hash(PASSWORD, 4).unwrap()
}

/// What mongodump writes of a collection: its documents one after the other.
fn dump(users: &[Document]) -> Vec<u8> {
    users.iter().flat_map(|user| user.to_vec().unwrap()).collect()
}

impl Stage {
    async fn import(&self, bytes: &[u8]) -> Result<Imported, DumpError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        self.ledger.import_users(file.path()).await
    }

    async fn users(&self) -> Vec<Document> {
        let mut cursor = self.db.collection("users").find(doc! {}).sort(doc! { "username": 1 }).await.unwrap();
        let mut users = Vec::new();
        while cursor.advance().await.unwrap() {
            users.push(cursor.deserialize_current().unwrap());
        }
        users
    }
}

#[tokio::test]
async fn users_are_added_and_replaced() {
    let stage = Stage::set().await;
    stage.ledger.add_user(&NewUser { username: "ada", password: "battery staple" }).await.unwrap();
    let users = [
        doc! { "_id": "any", "username": "ada", "hashed_password": bcrypt(), "email": "ada@example.org" },
        doc! { "username": "$grace.hopper", "password": bcrypt(), "scopes": ["$write"], "disabled": null },
        doc! { "username": "mallory", "hashed_password": bcrypt(), "disabled": true },
    ];
    assert_eq!(stage.import(&dump(&users)).await.unwrap(), all_taken(2, 1));

    for (username, expected) in [("ada", "Accepted"), ("$grace.hopper", "Accepted"), ("mallory", "Disabled")] {
        let verdict = stage.ledger.authenticate(username, PASSWORD).await.unwrap();
        assert!(format!("{verdict:?}").starts_with(expected), "{username}: {verdict:?}");
    }
    assert_eq!(stage.ledger.authenticate("ada", "battery staple").await.unwrap(), Authentication::Rejected);
    match stage.ledger.authenticate("$grace.hopper", PASSWORD).await.unwrap() {
        Authentication::Accepted(user) => assert_eq!(user.scopes, ["$write"]),
        other => panic!("{other:?}"),
    }

    let before = stage.users().await;
    assert_eq!(stage.import(&dump(&users)).await.unwrap(), all_taken(0, 3));
    assert_eq!(stage.users().await, before, "an import may be repeated");
}

#[tokio::test]
async fn an_import_over_restored_users_leaves_them_able_to_come_in() {
    let stage = Stage::set().await;
    // As mongorestore puts them there.
    let restored = doc! { "username": "ada", "hashed_password": bcrypt() };
    stage.db.collection::<Document>("users").insert_one(&restored).await.unwrap();
    assert_eq!(stage.import(&dump(&[restored])).await.unwrap(), all_taken(0, 1));
    let verdict = stage.ledger.authenticate("ada", PASSWORD).await.unwrap();
    assert!(matches!(verdict, Authentication::Accepted(_)), "{verdict:?}");
}

#[tokio::test]
async fn what_is_no_dump_changes_nothing() {
    let stage = Stage::set().await;
    stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap();
    let before = stage.users().await;
    let good = doc! { "username": "grace", "hashed_password": bcrypt() };
    let whole = dump(&[good.clone(), good.clone()]);
    let one = dump(std::slice::from_ref(&good));
    let gzip = [&[0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3][..], &one].concat();
    let too_long = [&i32::MAX.to_le_bytes()[..], &one[4..]].concat();
    let negative = [&(-1_i32).to_le_bytes()[..], &one[4..]].concat();
    let text = br#"{"username": "grace"}"#.to_vec();
    for (what, bytes) in [
        ("truncated in the second document", whole[..whole.len() - 1].to_vec()),
        ("truncated in a length", whole[..one.len() + 3].to_vec()),
        ("gzip", gzip),
        ("a length past the end", too_long),
        ("a negative length", negative),
        ("JSON", text),
        ("bytes after the last document", [&one[..], b"\0"].concat()),
    ] {
        let refused = stage.import(&bytes).await.unwrap_err();
        assert!(matches!(refused, DumpError::Form { .. }), "{what}: {refused}");
        assert_eq!(stage.users().await, before, "{what}");
    }
    let refused = stage.import(b"").await.unwrap_err();
    assert!(matches!(refused, DumpError::Empty), "{refused}");
    let refused = stage.ledger.import_users(Path::new("/does/not/exist.bson")).await.unwrap_err();
    assert!(
        matches!(refused, DumpError::Read { .. }) && refused.to_string().contains("/does/not/exist.bson"),
        "{refused}"
    );
    assert_eq!(stage.users().await, before);
}

#[tokio::test]
async fn one_document_that_is_no_user_stops_no_other() {
    let dear = |cost: &str| format!("$2b${cost}${}", &bcrypt()[7..]);
    let bad = [
        ("no name", doc! { "hashed_password": bcrypt() }, "username"),
        ("an empty name", doc! { "username": "", "hashed_password": bcrypt() }, "empty"),
        ("a name that is no text", doc! { "username": 7, "hashed_password": bcrypt() }, "7"),
        ("no password", doc! { "username": "ada" }, "password"),
        ("a password in clear", doc! { "username": "ada", "password": PASSWORD }, "\"ada\""),
        ("a short bcrypt hash", doc! { "username": "ada", "password": "$2b$12$short" }, "bcrypt"),
        ("an unknown form", doc! { "username": "ada", "password": "$6$rounds=5000$salt$hash" }, "argon2id"),
        (
            "argon2i",
            doc! { "username": "ada", "password": "$argon2i$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g" },
            "argon2id",
        ),
        ("a number for disabled", doc! { "username": "ada", "password": bcrypt(), "disabled": 0 }, "boolean"),
        ("a hash that takes 43 s to compare", doc! { "username": "ada", "password": dear("18") }, "18"),
    ];
    let good = |name: &str| doc! { "username": name, "hashed_password": bcrypt() };
    let mut documents = vec![good("first")];
    documents.extend(bad.iter().map(|(_, document, _)| document.clone()));
    documents.push(good("last"));

    let stage = Stage::set().await;
    let imported = stage.import(&dump(&documents)).await.unwrap();
    assert_eq!((imported.added, imported.replaced, imported.refused.len()), (2, 0, bad.len()));
    for (index, ((what, _, named), refused)) in bad.iter().zip(&imported.refused).enumerate() {
        assert_eq!(refused.number, index + 2, "{what}");
        let text = refused.to_string();
        assert!(text.contains(named) && !text.contains(PASSWORD), "{what}: {text}");
    }
    let names: Vec<_> = stage.users().await.iter().map(|user| user.get_str("username").unwrap().to_owned()).collect();
    assert_eq!(names, ["first", "last"]);
}

#[tokio::test]
async fn our_own_users_can_be_dumped_and_imported() {
    let stage = Stage::set().await;
    stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap();
    let dumped = dump(&stage.users().await);
    let elsewhere = Stage::set().await;
    assert_eq!(elsewhere.import(&dumped).await.unwrap(), all_taken(1, 0));
    let verdict = elsewhere.ledger.authenticate("ada", PASSWORD).await.unwrap();
    assert!(matches!(verdict, Authentication::Accepted(_)), "{verdict:?}");
}

#[tokio::test]
async fn users_of_a_dump_that_others_wrote_come_in_imported_or_restored() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/users.bson"));
    let (imported, restored) = (Stage::set().await, Stage::set().await);
    assert_eq!(imported.ledger.import_users(path).await.unwrap(), all_taken(4, 0));
    // As mongorestore does, which copies the documents as they are.
    let (bytes, mut at) = (std::fs::read(path).unwrap(), 0);
    while at < bytes.len() {
        let user = Document::from_reader(&bytes[at..]).unwrap();
        at += user.to_vec().unwrap().len();
        restored.db.collection::<Document>("users").insert_one(user).await.unwrap();
    }
    for stage in [imported, restored] {
        for (username, password, comes_in) in [
            ("grace", "amazing grace", true),
            ("jürgen", "größe und weite", true),
            ("margaret", "to the moon and back", true),
            ("mallory", "let me in please", false),
        ] {
            match stage.ledger.authenticate(username, password).await.unwrap() {
                Authentication::Accepted(user) => assert!(comes_in && user.username == username, "{username} came in"),
                Authentication::Disabled => assert!(!comes_in, "{username} is disabled"),
                Authentication::Rejected => panic!("{username} was not known"),
            }
            assert_eq!(stage.ledger.authenticate(username, "something else").await.unwrap(), Authentication::Rejected);
        }
    }
}
