//! The command: all of Waybill on one machine, the demonstration, the users.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use contract::FileId;
use waybill::place::Place;
use waybill::scale::Scale;
use waybill::{dead, demo, doctor, files, receipt, up, users};

/// As in the finaliser, which runs in here too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// Where to deliver to: a server of that kind is started for it
        #[arg(long, value_enum, value_name = "KIND", default_value_t)]
        to: demo::Kind,
    },
    /// The users who may call the gateway
    #[command(subcommand)]
    User(UserCommand),
    /// What became of files, and what can be done about them
    #[command(subcommand)]
    Files(FilesCommand),
    /// The messages that no worker could read
    #[command(subcommand)]
    Dead(DeadCommand),
    /// The proofs of delivery
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Read everything, say what is not as it should be, and mend what can be mended without loss
    ///
    /// Exit status: 0 if nothing was found or all of it was mended, 1 if something is left, 2 if it could not run.
    Doctor {
        #[command(flatten)]
        args: doctor::Args,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct UpArgs {
    /// Where everything is kept: the servers' data, the source folder, the folder of the default remote
    #[arg(long, default_value = ".waybill", value_name = "DIR")]
    data_dir: PathBuf,
    /// Where the gateway listens; port 0 picks one [default: gateway.listen of the settings, 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// The settings; see deploy/waybill.toml. WAYBILL__SECTION__KEY in the environment wins over the file
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
    /// Add a user; the password is asked for, or read from standard input if that is no terminal
    Add {
        /// The user's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Read the users of a collection that mongodump wrote
    Import {
        /// The .bson file
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum FilesCommand {
    /// List files, newest first
    Ls {
        #[command(flatten)]
        args: files::ListArgs,
        #[command(flatten)]
        place: Place,
    },
    /// Take failed files up again in the phase that failed; exit status 1 if that could not be done for all of them
    Requeue {
        /// The files
        #[arg(required = true, value_name = "ID")]
        ids: Vec<FileId>,
        #[command(flatten)]
        place: Place,
    },
    /// Cancel files that have not ended; exit status 1 if that could not be done for all of them
    Cancel {
        /// The files
        #[arg(required = true, value_name = "ID")]
        ids: Vec<FileId>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum DeadCommand {
    /// Count and list them, newest first
    Ls {
        #[command(flatten)]
        args: dead::ListArgs,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Check a receipt, its signature, and the file that was delivered; needs no servers and no settings
    ///
    /// Exit status: 0 if all holds and a key that was named vouches for it, 1 if something does not hold, 2 if it cannot be
    /// checked, 3 if all holds but no key was named (--key) or nobody signed it.
    Verify(receipt::VerifyArgs),
    /// Print the public key that receipts are checked by, as PEM
    Key {
        #[command(flatten)]
        place: Place,
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
        Command::User(UserCommand::Add { name, place }) => users::add(&name, &place).await,
        Command::User(UserCommand::Import { file, place }) => users::import(&file, &place).await,
        Command::Files(FilesCommand::Ls { args, place }) => files::list(&args, &place).await,
        Command::Files(FilesCommand::Requeue { ids, place }) => return status(files::requeue(&ids, &place).await),
        Command::Files(FilesCommand::Cancel { ids, place }) => return status(files::cancel(&ids, &place).await),
        Command::Dead(DeadCommand::Ls { args, place }) => dead::list(&args, &place).await,
        Command::Receipt(ReceiptCommand::Verify(args)) => return receipt::verify(&args),
        Command::Receipt(ReceiptCommand::Key { place }) => receipt::key(&place),
        Command::Doctor { args, place } => return doctor::command(args, &place).await,
    };
    status(ended.map(|()| ExitCode::SUCCESS))
}

fn status(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        eprintln!("waybill: {error:#}");
        ExitCode::FAILURE
    })
}
