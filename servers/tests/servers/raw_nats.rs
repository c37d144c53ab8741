//! Just enough of NATS' text protocol to see that a server serves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

pub(crate) struct RawNats {
    reader: BufReader<TcpStream>,
    pub(crate) info: Value,
}

impl RawNats {
    pub(crate) fn connect(port: u16, limit: Duration) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(limit))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let info = line.strip_prefix("INFO ").context("no INFO line")?;
        let info = serde_json::from_str(info)?;
        let mut raw = Self { reader, info };
        raw.send("CONNECT {\"verbose\":false}\r\nSUB answers 1\r\n")?;
        Ok(raw)
    }

    fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.reader.get_mut().write_all(text.as_bytes())?)
    }

    pub(crate) fn request(&mut self, subject: &str, payload: &str) -> anyhow::Result<Value> {
        self.send(&format!("PUB {subject} answers {}\r\n{payload}\r\n", payload.len()))?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("the server hung up");
            }
            if line.starts_with("MSG ") {
                let length: usize = line.trim_end().rsplit(' ').next().context("no length")?.parse()?;
                let mut payload = vec![0; length + 2];
                self.reader.read_exact(&mut payload)?;
                return Ok(serde_json::from_slice(&payload[..length])?);
            }
            if line.starts_with("-ERR") {
                bail!("{line}");
            }
        }
    }

    pub(crate) fn messages_in_stream(&mut self) -> anyhow::Result<u64> {
        let info = self.request("$JS.API.STREAM.INFO.KEPT", "")?;
        info["state"]["messages"].as_u64().with_context(|| info.to_string())
    }

    pub(crate) fn make_stream_with_a_message(&mut self) -> anyhow::Result<()> {
        let config = r#"{"name":"KEPT","subjects":["kept.>"],"storage":"file"}"#;
        let made = self.request("$JS.API.STREAM.CREATE.KEPT", config)?;
        anyhow::ensure!(made["error"].is_null(), "{made}");
        let acknowledged = self.request("kept.one", "hello")?;
        anyhow::ensure!(acknowledged["seq"] == 1, "{acknowledged}");
        Ok(())
    }
}
