//! The gateway's HTTP interface, call by call.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::{DEADLINE, until};

/// The header of a JSON body.
pub const JSON: (&str, &str) = ("content-type", "application/json");

/// How long an attempt may take. A gateway that waits for MongoDB answers 503 sooner.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// A caller of a gateway, with the token of one user or none.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client<HttpConnector, Full<Bytes>>,
    gateway: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
    /// The raw body.
    pub bytes: Bytes,
}

impl Answer {
    /// The last part of the problem's type.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or_default()
    }

    /// Panics unless the answer has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A member of the body that is a text.
    #[track_caller]
    pub fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_else(|| panic!("no text {member} in {self:?}"))
    }

    /// The file id in the body.
    #[track_caller]
    pub fn file_id(&self) -> String {
        self.text("file_id").to_owned()
    }

    /// Asserts that the answer is a problem of this status and type, with all the members that every problem must have.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = &self.body;
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        assert_eq!(self.header("www-authenticate"), (status == 401).then_some("Bearer"), "{self:?}");
        assert_eq!(self.headers.contains_key("retry-after"), [429, 503, 507].contains(&status), "{self:?}");
        problem.clone()
    }
}

impl Api {
    /// A caller without a token of the gateway at an address like `http://127.0.0.1:8080`.
    pub fn new(gateway: &str) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { http, gateway: gateway.to_owned(), token: None }
    }

    /// The same caller at another address of this machine, such as 127.0.0.2.
    pub fn at(&self, address: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(address));
        Self { http: Client::builder(TokioExecutor::new()).build(connector), ..self.clone() }
    }

    /// The address of the gateway.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The same caller with this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller, logged in as this user. Panics if the gateway refuses.
    pub async fn logged_in(&self, username: &str, password: &str) -> Self {
        let answer = self.log_in(username, password).await.expect(200);
        self.with_token(answer.text("access_token"))
    }

    /// Any call. Panics if there is no answer.
    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let answer = self.answer(DEADLINE, (method, path), headers, body.into()).await;
        answer.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Any call. After an error (it broke off, or took longer than 30 s) nobody knows whether it was done.
    pub async fn attempt(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        self.answer(ATTEMPT_LIMIT, (method, path), headers, body.into()).await
    }

    async fn answer(
        &self,
        limit: Duration,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.gateway));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        let request = request.body(Full::new(body)).unwrap();
        let answered = async {
            let (head, body) = self.http.request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        let (head, bytes) = tokio::time::timeout(limit, answered).await.context("no answer in time")??;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { status: head.status, headers: head.headers, body, bytes })
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[JSON], body.to_string()).await
    }

    /// `POST` of a form.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.call("POST", path, &[("content-type", "application/x-www-form-urlencoded")], form).await
    }

    /// `POST /auth/token`
    pub async fn log_in(&self, username: &str, password: &str) -> Answer {
        self.form("/auth/token", &[("username", username), ("password", password)]).await
    }

    /// `POST /upload/prepare` with nothing but a path.
    pub async fn prepare(&self, path: &str) -> Answer {
        self.prepare_with(&json!({ "file_path": path })).await
    }

    /// `POST /upload/prepare`
    pub async fn prepare_with(&self, body: &Value) -> Answer {
        self.post("/upload/prepare", body).await
    }

    /// Prepares a path, which is also the idempotency key, until the gateway accepts it. Returns the file id.
    pub async fn until_prepared(&self, path: &str) -> String {
        let (body, headers) = (json!({ "file_path": path }).to_string(), [JSON, ("idempotency-key", path)]);
        until(&format!("{path} is accepted"), async || {
            let answer = self.attempt("POST", "/upload/prepare", &headers, body.clone()).await.ok()?;
            (answer.status == 201).then(|| answer.file_id())
        })
        .await
    }

    /// `POST /upload/{id}/finalise` with a hash and a JSON body.
    pub async fn finalise(&self, file: &str, sha256: &str, body: &Value) -> Answer {
        let headers = [JSON, ("content-sha256", sha256)];
        self.call("POST", &format!("/upload/{file}/finalise"), &headers, body.to_string()).await
    }

    /// `GET /files/{id}`
    pub async fn file(&self, file: &str) -> Value {
        self.get(&format!("/files/{file}")).await.expect(200).body
    }

    /// Waits until the file shows an error of `/problems/KIND`.
    pub async fn until_error(&self, file: &str, kind: &str) -> Value {
        let kind = format!("/problems/{kind}");
        until(&format!("{file} shows {kind}"), async || {
            let found = self.file(file).await;
            let now = &found["error"]["type"];
            assert!(now.is_null() || *now == *kind, "waited for {kind}, but the file is {found:#}");
            assert_ne!(found["state"], "delivered", "waited for {kind}");
            (*now == *kind).then_some(found)
        })
        .await
    }

    /// Waits until the file is in `state`; panics if it ends in another state.
    pub async fn until_state(&self, file: &str, state: &str) -> Value {
        until(&format!("{file} is {state}"), async || {
            let found = self.file(file).await;
            let now = found["state"].as_str().unwrap_or_default();
            let ended = ["delivered", "failed", "cancelled"].contains(&now);
            assert!(now == state || !ended, "waited until the file is {state}, but it is {found:#}");
            (now == state).then_some(found)
        })
        .await
    }
}
