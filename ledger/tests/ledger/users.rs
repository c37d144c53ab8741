//! Who may come in.

use std::time::Duration;

use ledger::{Authentication, NewUser, User};
use mongodb::bson::{Document, doc};

use crate::stage::Stage;

const PASSWORD: &str = "correct horse";

fn user(username: &str, scopes: &[&str]) -> User {
    User { username: username.into(), scopes: scopes.iter().map(|s| (*s).to_owned()).collect() }
}

fn welcome(username: &str, scopes: &[&str]) -> Authentication {
    Authentication::Accepted(user(username, scopes))
}

impl Stage {
    async fn user(&self, username: &str) -> Document {
        self.db.collection("users").find_one(doc! { "username": username }).await.unwrap().unwrap()
    }

    async fn insert_user(&self, user: Document) {
        self.db.collection("users").insert_one(user).await.unwrap();
    }

    async fn verify(&self, username: &str, password: &str) -> Authentication {
        self.ledger.authenticate(username, password).await.unwrap()
    }
}

#[tokio::test]
async fn a_user_comes_in_with_the_right_password_only() {
    let stage = Stage::set().await;
    assert!(!stage.ledger.has_users().await.unwrap());
    assert!(stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap());
    assert!(stage.ledger.has_users().await.unwrap());

    assert_eq!(stage.verify("ada", PASSWORD).await, welcome("ada", &[]));
    for (username, password) in
        [("ada", "battery staple"), ("ada", ""), ("ada", "correct horse "), ("Ada", PASSWORD), ("", PASSWORD)]
    {
        assert_eq!(stage.verify(username, password).await, Authentication::Rejected, "{username:?} {password:?}");
    }
    let kept = stage.user("ada").await.get_str("password").unwrap().to_owned();
    assert!(kept.starts_with("$argon2id$v=19$") && !kept.contains(PASSWORD), "{kept}");
}

#[tokio::test]
async fn a_name_is_given_once() {
    let stage = Stage::set().await;
    assert!(stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap());
    let before = stage.user("ada").await;
    assert!(!stage.ledger.add_user(&NewUser { username: "ada", password: "battery staple" }).await.unwrap());
    assert_eq!(stage.user("ada").await, before);
    assert_eq!(stage.verify("ada", "battery staple").await, Authentication::Rejected);
}

#[tokio::test]
async fn an_unknown_user_is_wrong_whether_or_not_there_are_others() {
    let stage = Stage::set().await;
    assert_eq!(stage.verify("nobody", PASSWORD).await, Authentication::Rejected);
    stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap();
    // The right password of another.
    assert_eq!(stage.verify("nobody", PASSWORD).await, Authentication::Rejected);
    assert_eq!(stage.ledger.active_user("nobody").await.unwrap(), None);
}

#[tokio::test]
async fn a_disabled_user_is_told_so_only_with_the_right_password() {
    let stage = Stage::set().await;
    stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap();
    assert_eq!(stage.ledger.active_user("ada").await.unwrap(), Some(user("ada", &[])));
    let users = stage.db.collection::<Document>("users");
    users.update_one(doc! { "username": "ada" }, doc! { "$set": { "disabled": true } }).await.unwrap();

    assert_eq!(stage.verify("ada", PASSWORD).await, Authentication::Disabled);
    assert_eq!(stage.verify("ada", "battery staple").await, Authentication::Rejected);
    assert_eq!(stage.ledger.active_user("ada").await.unwrap(), None);
}

#[tokio::test]
async fn users_of_the_original_service_come_in_as_they_are() {
    let stage = Stage::set().await;
    let bcrypt = bcrypt::hash(PASSWORD, 4).unwrap();
    for (username, version) in [("a", "$2a$"), ("b", "$2b$"), ("y", "$2y$")] {
        let hash = bcrypt.replacen("$2b$", version, 1);
        stage.insert_user(doc! { "username": username, "hashed_password": hash, "disabled": null }).await;
        assert_eq!(stage.verify(username, PASSWORD).await, welcome(username, &[]));
        assert_eq!(stage.verify(username, "battery staple").await, Authentication::Rejected);
        assert_eq!(stage.ledger.active_user(username).await.unwrap(), Some(user(username, &[])));
    }
    let more =
        doc! { "username": "more", "hashed_password": &bcrypt, "scopes": ["read", "write"], "email": "m@example.org" };
    stage.insert_user(more).await;
    assert_eq!(stage.verify("more", PASSWORD).await, welcome("more", &["read", "write"]));
    assert_eq!(stage.ledger.active_user("more").await.unwrap(), Some(user("more", &["read", "write"])));
}

#[tokio::test]
async fn what_is_no_hash_lets_nobody_in() {
    let stage = Stage::set().await;
    for (number, hash) in ["", PASSWORD, "$2b$04$short", "$argon2id$v=19$m=1$x", "$1$abc$def"].into_iter().enumerate() {
        let username = format!("user-{number}");
        stage.insert_user(doc! { "username": &username, "password": hash }).await;
        for password in [PASSWORD, hash, ""] {
            assert_eq!(stage.verify(&username, password).await, Authentication::Rejected, "{hash:?} {password:?}");
        }
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_read_stops_nobody_else() {
    let stage = Stage::set().await;
    let bcrypt = bcrypt::hash(PASSWORD, 4).unwrap();
    let both = doc! { "username": "both", "password": &bcrypt, "hashed_password": &bcrypt };
    for broken in [doc! { "username": "broken", "password": &bcrypt, "disabled": 0 }, both, doc! { "username": "bare" }]
    {
        stage.insert_user(broken).await;
    }
    stage.ledger.add_user(&NewUser { username: "ada", password: PASSWORD }).await.unwrap();
    assert_eq!(stage.verify("ada", PASSWORD).await, welcome("ada", &[]));
    // `broken` is the first in the table.
    for username in ["nobody", "broken", "both", "bare"] {
        assert_eq!(stage.verify(username, PASSWORD).await, Authentication::Rejected, "{username}");
        assert_eq!(stage.ledger.active_user(username).await.unwrap(), None, "{username}");
    }
}

/// To compare a password with the first takes the better part of a minute, with the second 4 GiB.
#[tokio::test]
async fn a_hash_that_costs_too_much_is_not_compared() {
    let stage = Stage::set().await;
    let bcrypt = bcrypt::hash(PASSWORD, 4).unwrap().replacen("$04$", "$20$", 1);
    let argon2 = "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$pTeK54QTS4w6u6XE12QiWxoyq3bGwxRTJISNc6LOZDk";
    for (username, hash) in [("b", bcrypt.as_str()), ("a", argon2)] {
        stage.insert_user(doc! { "username": username, "password": hash }).await;
        let verdict = tokio::time::timeout(Duration::from_secs(30), stage.verify(username, PASSWORD)).await;
        assert_eq!(verdict.unwrap_or_else(|_| panic!("{hash} was compared")), Authentication::Rejected);
    }
}
