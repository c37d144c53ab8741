//! `POST /auth/token`

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::json;

use crate::stage::{PASSWORD, Stage, USER};

const GOOD: [(&str, &str); 2] = [("username", USER), ("password", PASSWORD)];

/// Of "amazing grace".
const BCRYPT: &str = "$2b$05$tsvyAqrwJERrQ9UeFL6P6u.BbCg9.EGqChCuzqh5eIu53I5XKCSdW";

#[tokio::test]
async fn name_and_password_are_exchanged_for_a_token() {
    let stage = Stage::set_with(|settings| settings.auth.token_seconds = 1234).await;
    let with_grant = [&[("grant_type", "password")], &GOOD[..]].concat();
    // OAuth2 clients send more fields.
    let as_clients_send =
        [&with_grant[..], &[("scope", ""), ("client_id", "x"), ("client_secret", "y"), ("z", "")]].concat();
    for (path, fields) in [("/auth/token", &GOOD[..]), ("/auth/token/", &with_grant), ("/auth/token", &as_clients_send)]
    {
        let answer = stage.stranger.form(path, fields).await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&"bearer".into(), &1234.into()));
        assert_eq!(answer.body.as_object().unwrap().len(), 3);
        assert_eq!(stage.stranger.with_token(answer.text("access_token")).get("/files").await.status, 200);
    }
}

#[tokio::test]
async fn nobody_learns_which_users_exist() {
    let stage = Stage::set().await;
    let wrong = stage.stranger.log_in(USER, "battery staple").await;
    let unknown = stage.stranger.log_in("eve", PASSWORD).await;
    wrong.assert_problem(401, "wrong-credentials");
    unknown.assert_problem(401, "wrong-credentials");
    assert_eq!(wrong.body, unknown.body);
}

#[tokio::test]
async fn a_disabled_user_gets_no_token() {
    let stage = Stage::set().await;
    stage.disable(USER, true).await;
    stage.stranger.log_in(USER, PASSWORD).await.assert_problem(401, "wrong-credentials");
}

#[tokio::test]
async fn anything_but_a_password_grant_is_refused() {
    let stage = Stage::set().await;
    let long = "x".repeat(1025);
    let bad: [&[(&str, &str)]; 8] = [
        &[],
        &[("username", USER)],
        &[("password", PASSWORD)],
        &[("username", ""), ("password", PASSWORD)],
        &[("username", &long), ("password", PASSWORD)],
        &[("username", USER), ("password", &long)],
        &[("username", USER), ("username", USER), ("password", PASSWORD)],
        &[("username", USER), ("password", PASSWORD), ("grant_type", "client_credentials")],
    ];
    for fields in bad {
        stage.stranger.form("/auth/token", fields).await.assert_problem(400, "malformed-request");
    }
    let json = json!({ "username": USER, "password": PASSWORD });
    stage.stranger.post("/auth/token", &json).await.assert_problem(400, "malformed-request");
}

/// Hashing is bounded: all of a crowd get an answer, most of them that they must try again.
#[tokio::test]
async fn a_crowd_is_answered_or_told_to_try_again() {
    let stage = Stage::set().await;
    let crowd = (0..200).map(|_| {
        let stranger = stage.stranger.clone();
        tokio::spawn(async move { stranger.log_in("eve", "x").await })
    });
    let (mut wrong, mut told) = (0, 0);
    for one in crowd.collect::<Vec<_>>() {
        let answer = one.await.unwrap();
        match answer.status.as_u16() {
            503 => drop(answer.assert_problem(503, "busy")),
            429 => drop(answer.assert_problem(429, "too-many-failed-logins")),
            _ => drop(answer.assert_problem(401, "wrong-credentials")),
        }
        *(if answer.status == 401 { &mut wrong } else { &mut told }) += 1;
    }
    assert!(wrong >= 20 && told > 100, "{wrong} were wrong, {told} told to try again");
    assert_eq!(stage.service.counters.logins_failed(), wrong);
}

/// The time of an answer must not tell whether a name exists, nor which kind of hash it has.
#[tokio::test]
async fn a_failed_login_takes_a_second_whoever_it_is_for() {
    let stage = Stage::set().await;
    let users = stage.db.collection("users");
    let broken = doc! { "username": "broken", "password": "$2b$18$", "disabled": 0 };
    for user in [doc! { "username": "grace", "password": BCRYPT }, broken] {
        users.insert_one(user).await.unwrap();
    }
    for username in [USER, "grace", "broken", "nobody"] {
        let begun = Instant::now();
        stage.stranger.log_in(username, "battery staple").await.assert_problem(401, "wrong-credentials");
        assert!(begun.elapsed() >= Duration::from_millis(990), "{username}: {:?}", begun.elapsed());
    }
    stage.stranger.log_in("grace", "amazing grace").await.expect(200);
}
