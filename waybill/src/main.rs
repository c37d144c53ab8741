//! The command: all of Waybill on one machine, the demonstration, the users.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use waybill::scale::Scale;
use waybill::{demo, up, users};

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
    },
    /// The users who may call the gateway
    #[command(subcommand)]
    User(UserCommand),
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
        place: users::Place,
    },
    /// Read the users of a collection that mongodump wrote
    Import {
        /// The .bson file
        file: PathBuf,
        #[command(flatten)]
        place: users::Place,
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
        Command::Demo { file } => demo::command(file).await,
        Command::User(UserCommand::Add { name, place }) => users::add(&name, &place).await,
        Command::User(UserCommand::Import { file, place }) => users::import(&file, &place).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waybill: {error:#}");
            ExitCode::FAILURE
        }
    }
}
