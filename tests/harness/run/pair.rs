use std::net::SocketAddr;

use anyhow::Context;
use servers::{MIN_CACHE_MIB, Mongo, MongoOptions, Nats, NatsOptions};
use tempfile::TempDir;

use super::fault::Server;

/// A nats-server and a mongod to be killed at will, for many runs one after the other. They keep their ports. An error says
/// that a signal was refused, or that a server did not start again at its port.
#[derive(Debug)]
pub struct Pair {
    nats: Nats,
    mongo: Mongo,
    // Last: it goes when the servers are gone.
    folder: TempDir,
}

impl Pair {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("waybill-pair-").tempdir()?;
        let mut nats = NatsOptions::new(folder.path().join("nats"), 8 << 20);
        let mut mongo = MongoOptions::new(folder.path().join("mongod"), MIN_CACHE_MIB);
        (nats.die_with_parent, mongo.die_with_parent) = (true, true);
        let (nats, mongo) = tokio::try_join!(Nats::start(nats), Mongo::start(mongo))?;
        Ok(Self { nats, mongo, folder })
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Where MongoDB is.
    pub fn mongodb_uri(&self) -> String {
        self.mongo.uri()
    }

    /// The address of a server.
    pub fn address(&self, server: Server) -> SocketAddr {
        let port = match server {
            Server::Nats => self.nats.port(),
            Server::Mongo => self.mongo.port(),
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// `kill -9`
    pub async fn kill(&self, server: Server) -> anyhow::Result<()> {
        match server {
            Server::Nats => self.nats.kill().await?,
            Server::Mongo => self.mongo.kill().await?,
        };
        Ok(())
    }

    /// Deletes all that NATS has kept; it must have been killed.
    pub fn lose_nats(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.folder.path().join("nats/jetstream")).context("deleting NATS' data")
    }

    /// Starts a server again that was killed, with its data and at its port. Nothing happens to one that runs.
    pub async fn start_again(&mut self, server: Server) -> anyhow::Result<()> {
        let before = self.address(server);
        match server {
            Server::Nats if self.nats.try_wait().is_some() => {
                self.nats = Nats::start(self.nats.options().clone()).await?;
            }
            Server::Mongo if self.mongo.try_wait().is_some() => {
                self.mongo = Mongo::start(self.mongo.options().clone()).await?;
            }
            _ => {}
        }
        anyhow::ensure!(before == self.address(server), "{server:?} lost its port: all clients look for {before}");
        Ok(())
    }

    /// Freezes a server.
    pub fn freeze(&self, server: Server) -> anyhow::Result<()> {
        match server {
            Server::Nats => self.nats.pause()?,
            Server::Mongo => self.mongo.pause()?,
        }
        Ok(())
    }

    /// Wakes a frozen server.
    pub fn wake(&self, server: Server) -> anyhow::Result<()> {
        match server {
            Server::Nats => self.nats.resume()?,
            Server::Mongo => self.mongo.resume()?,
        }
        Ok(())
    }
}
