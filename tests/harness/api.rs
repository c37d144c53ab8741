//! The gateway's HTTP interface, call by call, with nothing hidden.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// How long a call may take. A gateway that waits for MongoDB answers 503 sooner.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A caller of a gateway.
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
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Answer {
    /// The last part of the problem's type.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or_default()
    }

    /// Panics unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// The file id in the body.
    #[track_caller]
    pub fn file_id(&self) -> String {
        self.body["file_id"].as_str().unwrap_or_else(|| panic!("no file_id in {}", self.body)).to_owned()
    }
}

impl Api {
    /// A caller without a token.
    pub fn new(gateway: &str) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { http, gateway: gateway.to_owned(), token: None }
    }

    /// Where the gateway is.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The same caller with another token, or none.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Any call. Panics where there is no answer.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.attempt(method, path, headers, body).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Any call; an error where it broke off or took longer than `CALL_LIMIT`: then nobody knows whether it was done.
    pub async fn attempt(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.gateway));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request =
                request.header(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answered = async {
            let (head, body) = self.http.request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = tokio::time::timeout(CALL_LIMIT, answered).await.context("no answer in time")??;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// `POST /auth/token`
    pub async fn log_in(&self, username: &str, password: &str) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", username)
            .append_pair("password", password)
            .finish();
        self.call(Method::POST, "/auth/token", &[("content-type", "application/x-www-form-urlencoded")], form).await
    }

    /// `POST /upload/prepare` of a path and nothing else.
    pub async fn prepare(&self, path: &str) -> Answer {
        self.post("/upload/prepare", &json!({ "file_path": path })).await
    }

    /// `POST /upload/{id}/finalise` with a hash and a JSON body.
    pub async fn finalise(&self, file: &str, sha256: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("content-sha256", sha256)];
        self.call(Method::POST, &format!("/upload/{file}/finalise"), &headers, body.to_string()).await
    }

    /// `GET /files/{id}`
    pub async fn file(&self, file: &str) -> Value {
        self.get(&format!("/files/{file}")).await.expect(200).body
    }

    /// Waits until the file shows an error of `/problems/KIND`.
    pub async fn until_error(&self, file: &str, kind: &str) -> Value {
        let kind = format!("/problems/{kind}");
        crate::until(&format!("{file} shows {kind}"), async || {
            let found = self.file(file).await;
            let now = &found["error"]["type"];
            assert!(now.is_null() || *now == *kind, "waited for {kind}, but the file is {found:#}");
            assert_ne!(found["state"], "delivered", "waited for {kind}");
            (*now == *kind).then_some(found)
        })
        .await
    }

    /// Waits until the file is in `state`; panics when it ends in another.
    pub async fn until_state(&self, file: &str, state: &str) -> Value {
        crate::until(&format!("{file} is {state}"), async || {
            let found = self.file(file).await;
            let now = found["state"].as_str().unwrap_or_default();
            let ended = ["delivered", "failed", "cancelled"].contains(&now);
            assert!(now == state || !ended, "waited until the file is {state}, but it is {found:#}");
            (now == state).then_some(found)
        })
        .await
    }
}
