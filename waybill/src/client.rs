//! A small client of the gateway.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use contract::{Digest, FileId};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// The largest answer that the client reads, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// A client that has logged in.
#[derive(Debug)]
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    gateway: String,
    token: String,
}

impl Client {
    /// Logs in at the gateway.
    pub async fn log_in(gateway: &str, username: &str, password: &str) -> Result<Self> {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let mut client = Self { http, gateway: gateway.to_owned(), token: String::new() };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", username)
            .append_pair("password", password)
            .finish();
        let request = client.request(Method::POST, "/auth/token");
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = client.send(request.body(Full::from(form))?, StatusCode::OK).await?;
        client.token = answer["access_token"].as_str().context("the gateway gave no token")?.to_owned();
        Ok(client)
    }

    /// Asks the gateway to record a file and have it chunked.
    pub async fn prepare(&self, path: &Path) -> Result<FileId> {
        let body = json!({ "file_path": path }).to_string();
        let request = self.request(Method::POST, "/upload/prepare").header(header::CONTENT_TYPE, "application/json");
        let answer = self.send(request.body(Full::from(body))?, StatusCode::CREATED).await?;
        let id = answer["file_id"].as_str().context("the gateway gave no file id")?;
        Ok(id.parse()?)
    }

    /// Asks the gateway to have a file delivered if it has this hash.
    pub async fn finalise(&self, file: FileId, sha256: Digest) -> Result<()> {
        let request = self.request(Method::POST, &format!("/upload/{file}/finalise"));
        let request = request.header("content-sha256", sha256.to_string());
        self.send(request.body(Full::default())?, StatusCode::ACCEPTED).await?;
        Ok(())
    }

    /// The file as the gateway shows it.
    pub async fn file(&self, file: FileId) -> Result<Value> {
        let request = self.request(Method::GET, &format!("/files/{file}"));
        self.send(request.body(Full::default())?, StatusCode::OK).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.gateway));
        match self.token.as_str() {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>, expected: StatusCode) -> Result<Value> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let response = self.http.request(request).await.with_context(|| format!("{what} failed"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!(e)).with_context(|| format!("{what}: the answer broke off"))?;
        let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        if status != expected {
            bail!("{what}: expected {expected}, found {status}: {answer}");
        }
        Ok(answer)
    }
}
