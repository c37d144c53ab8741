//! The arguments of the command, and which function runs each subcommand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use contract::{FileId, indented};
use waybill::connection::ConnectionArgs;
use waybill::scale::Scale;
use waybill::{dead, demo, doctor, files, receipt, up, users};

/// The same as in the finaliser, which runs in this process too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Maximum characters of a line of an error.
const LINE: usize = 4000;

/// Moves files from shared storage to a remote, in hashed chunks, and proves it
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: the servers that are not configured, and the four services
    Up(UpArgs),
    /// Run everything in a fresh directory, send a file through it, and compare what arrived
    Demo {
        /// The file to send; 64 MiB of random bytes if none is named
        file: Option<PathBuf>,
        /// The kind of remote to deliver to; a server of that kind is started
        #[arg(long, value_enum, value_name = "KIND", default_value_t)]
        to: demo::DestinationKind,
    },
    /// Add or import users who may call the gateway
    #[command(subcommand)]
    User(UserCommand),
    /// List, requeue and cancel files
    #[command(subcommand)]
    Files(FilesCommand),
    /// List the messages that no worker could read
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Check receipts, and print the key that verifies them
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Read everything, report what is not as it should be, and mend what can be mended without loss
    ///
    /// Exit status: 0 if nothing was found or all of it was mended, 1 if something is left, 2 if it could not run.
    Doctor {
        #[command(flatten)]
        args: doctor::Args,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

#[derive(clap::Args)]
struct UpArgs {
    /// The folder for everything: the servers' data, the source folder, the folder of the default remote
    #[arg(long, default_value = ".waybill", value_name = "DIR")]
    data_dir: PathBuf,
    /// Where the gateway listens; port 0 picks one [default: gateway.listen of the settings, 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// The settings; see deploy/waybill.toml. WAYBILL__SECTION__KEY in the environment overrides the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one line of JSON when everything is ready, and nothing else on standard output
    #[arg(long)]
    json: bool,
    /// How many of each worker to run, like chunker=2,store=2
    #[arg(long, default_value = "", value_name = "WORKER=N,...")]
    scale: Scale,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user; the command asks for the password, or reads it from standard input if that is not a terminal
    Add {
        /// The user's name
        name: String,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Import the users of a collection that mongodump wrote
    Import {
        /// The .bson file
        file: PathBuf,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

#[derive(Subcommand)]
enum FilesCommand {
    /// List files, newest first
    Ls {
        #[command(flatten)]
        args: files::ListArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Retry failed files, starting in the phase that failed; exit status 1 if one of them could not be requeued
    Requeue {
        /// The files
        #[arg(required = true, value_name = "ID")]
        ids: Vec<FileId>,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Cancel files that have not ended; exit status 1 if one of them could not be cancelled
    Cancel {
        /// The files
        #[arg(required = true, value_name = "ID")]
        ids: Vec<FileId>,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

#[derive(Subcommand)]
enum DeadCommand {
    /// Count and list the messages, newest first
    Ls {
        #[command(flatten)]
        args: dead::ListArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Check a receipt, its signature, and the delivered file; needs no servers and no settings
    ///
    /// Exit status: 0 if all holds and a key that was named vouches for it, 1 if something does not hold, 2 if the
    /// receipt cannot be checked, 3 if all holds but no key was named (--key) or nobody signed it.
    Verify(receipt::VerifyArgs),
    /// Print the public key that verifies receipts, as PEM
    Key {
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Args::parse().command {
        Command::Up(args) => {
            let options =
                up::Options { data_dir: args.data_dir, listen: args.listen, config: args.config, scale: args.scale };
            up::command(options, args.json).await
        }
        Command::Demo { file, to } => demo::command(file, to).await,
        Command::User(UserCommand::Add { name, connection }) => users::add(&name, &connection).await,
        Command::User(UserCommand::Import { file, connection }) => users::import(&file, &connection).await,
        Command::Files(FilesCommand::Ls { args, connection }) => files::list(&args, &connection).await,
        Command::Files(FilesCommand::Requeue { ids, connection }) => {
            return status(files::requeue(&ids, &connection).await);
        }
        Command::Files(FilesCommand::Cancel { ids, connection }) => {
            return status(files::cancel(&ids, &connection).await);
        }
        Command::Dead(DeadCommand::Ls { args, connection }) => dead::list(&args, &connection).await,
        Command::Receipt(ReceiptCommand::Verify(args)) => return receipt::verify(&args),
        Command::Receipt(ReceiptCommand::Key { connection }) => receipt::key(&connection),
        Command::Doctor { args, connection } => return doctor::command(args, &connection).await,
    };
    status(ended.map(|()| ExitCode::SUCCESS))
}

fn status(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        eprintln!("waybill: {}", indented(&format!("{error:#}"), LINE));
        ExitCode::FAILURE
    })
}
