use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{Digest, FileId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::{Fault, Meddling};
use super::plan::PlannedFile;
use crate::checker::Rule;
use crate::checker::{Sent, Violation};
use crate::history::{History, Outcome};
use crate::{Answer, Api, Content, write_source};

/// How long a client waits before it asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// A client that gets one file delivered. It repeats a request until it knows the result.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) api: Api,
    pub(super) history: Arc<History>,
    pub(super) sources: PathBuf,
    pub(super) file: PlannedFile,
    pub(super) excuses: Vec<&'static str>,
    pub(super) deadline: Instant,
}

impl Client {
    /// Prepares and finalises the file. An error is a broken rule: a wrong answer, or none before the deadline.
    pub(super) async fn send(self) -> Result<Sent, Violation> {
        let PlannedFile { name, size, remote, fault, .. } = &self.file;
        let content = write_source(&self.sources.join(name), *size, *size + name.len() as u64);
        tokio::time::sleep_until(Instant::now() + self.file.at.saturating_sub(self.history.elapsed())).await;
        let id = self.prepare().await?;
        if let Some(Fault::Source(meddling)) = fault {
            self.meddle(id, *meddling).await?;
        }
        if !self.file.early {
            self.until_stored(id).await?;
        }
        let wrong = *fault == Some(Fault::WrongExpectation);
        let refused = self.finalise(id, if wrong { Digest::of(b"something else") } else { content.sha256 }).await?;
        Ok(Sent {
            id,
            name: name.clone(),
            remote: (*remote).to_owned(),
            content: Content { size: *size, ..content },
            may_rest: wrong || matches!(fault, Some(Fault::Source(_))),
            refused,
            excuses: self.excuses.clone(),
        })
    }

    /// `POST /upload/prepare` until it is answered. Thanks to the key it makes one file, however often it is sent.
    async fn prepare(&self) -> Result<FileId, Violation> {
        let name = &self.file.name;
        let body = json!({ "file_path": name });
        let headers = [("content-type", "application/json"), ("idempotency-key", name.as_str())];
        let (what, mut known) = (format!("prepare {name}"), None);
        for _ in 0..=u8::from(self.file.twice) {
            let answer = self.until_answered(&what, None, "POST", "/upload/prepare", &headers, &body).await?;
            let id = answer.body["file_id"].as_str().and_then(|id| id.parse::<FileId>().ok());
            let Some(id) = id.filter(|_| answer.status == 201) else {
                return Err(unfit(&what, &answer));
            };
            if known.is_some_and(|known| known != id) {
                let what = format!("the same request with the same key made two files of {name}: {known:?} and {id}");
                return Err(Violation::new(Rule::Accounted, what));
            }
            known = Some(id);
        }
        known.ok_or_else(|| Violation::new(Rule::Accounted, "nothing was prepared"))
    }

    /// `POST /upload/{id}/finalise` until it is answered. Returns the reason if it was refused.
    async fn finalise(&self, id: FileId, sha256: Digest) -> Result<Option<String>, Violation> {
        let PlannedFile { name, remote, .. } = &self.file;
        let hash = sha256.to_string();
        let headers = [("content-type", "application/json"), ("content-sha256", hash.as_str())];
        let path = format!("/upload/{id}/finalise");
        let body = json!({ "remote": remote });
        let mut refused = None;
        for _ in 0..=u8::from(self.file.twice) {
            let what = format!("finalise {name}");
            let answer = self.until_answered(&what, Some(id), "POST", &path, &headers, &body).await?;
            refused = match answer.status.as_u16() {
                202 => None,
                // The file has failed meanwhile, or differs from what was expected: the checker judges whether it may.
                409 | 422 => Some(answer.problem().to_owned()),
                _ => return Err(unfit(&what, &answer)),
            };
        }
        Ok(refused)
    }

    async fn until_stored(&self, id: FileId) -> Result<(), Violation> {
        loop {
            let state = self.state(id).await?;
            if !["prepared", "chunking"].contains(&state.as_str()) {
                return Ok(());
            }
            if Instant::now() > self.deadline {
                return Err(Violation::new(Rule::Moving, format!("{id} is not stored at the deadline, but {state}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn state(&self, id: FileId) -> Result<String, Violation> {
        let path = format!("/files/{id}");
        let answer = self.until_answered("look", Some(id), "GET", &path, &[], &Value::Null).await?;
        match answer.body["state"].as_str() {
            Some(state) if answer.status == 200 => Ok(state.to_owned()),
            _ => Err(unfit(&format!("look at {id}"), &answer)),
        }
    }

    /// Repeats a call until it is answered with something other than "not now".
    async fn until_answered(
        &self,
        what: &str,
        id: Option<FileId>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Violation> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        loop {
            let from = self.history.elapsed();
            let answer = self.api.attempt(method, path, headers, body.clone()).await;
            let outcome = match &answer {
                Err(error) => Outcome::Unknown(format!("{error:#}")),
                Ok(answer) if answer.status.is_success() => Outcome::Ok(answer.status.as_str().to_owned()),
                // A server error leaves open whether it was done.
                Ok(answer) if answer.status.is_server_error() => Outcome::Unknown(answer.body.to_string()),
                Ok(answer) => Outcome::Failed(answer.body.to_string()),
            };
            let known = !matches!(outcome, Outcome::Unknown(_));
            // GETs are many, and tell nothing that the record does not.
            if method != "GET" {
                self.history.note(from, what, id, outcome);
            }
            match answer {
                Ok(answer) if known => return Ok(answer),
                _ if Instant::now() > self.deadline => {
                    return Err(Violation::new(Rule::Moving, format!("{what} was not answered before the deadline")));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Changes the source as soon as it is being read.
    async fn meddle(&self, id: FileId, meddling: Meddling) -> Result<(), Violation> {
        while self.state(id).await? == "prepared" && Instant::now() < self.deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let path = self.sources.join(&self.file.name);
        self.history.event(format!("the source {} is {meddling:?} now", self.file.name));
        let times = if meddling == Meddling::Changed { 3 } else { 1 };
        for time in 0..times {
            meddle(&path, meddling, time).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

fn meddle(path: &std::path::Path, meddling: Meddling, time: u64) -> std::io::Result<()> {
    match meddling {
        Meddling::Changed => {
            use std::os::unix::fs::FileExt;
            let file = std::fs::File::options().write(true).open(path)?;
            file.write_all_at(b"something else", file.metadata()?.len() / 2 + time)
        }
        Meddling::Truncated => {
            let file = std::fs::File::options().write(true).open(path)?;
            file.set_len(file.metadata()?.len() / 2)
        }
        Meddling::Removed => std::fs::remove_file(path),
        Meddling::Replaced => {
            let other = path.with_extension("other");
            write_source(&other, 3 << 20, 7);
            std::fs::rename(other, path)
        }
    }
}

fn unfit(what: &str, answer: &Answer) -> Violation {
    Violation::new(Rule::Accounted, format!("{what} was answered {}: {}", answer.status, answer.body))
}
