//! Runs of the system under faults, one after the other, each from a seed of its own, each judged.
//!
//! `cargo run --release -p tests --bin soak -- --minutes 30 --seed 1` ends with the table that `docs/reliability.md` keeps, and with
//! status 1 as soon as a rule is broken in any run. A run is repeated by its seed and the same `--only`: `--seed SEED --runs 1`.
#![allow(clippy::print_stdout, reason = "it prints its results")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use harness::run::{Fault, Manner, Pair, Plan, Report, run};

#[derive(Debug, Parser)]
struct Args {
    /// For how many minutes runs are begun
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// How many runs at most
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    runs: u64,
    /// The seed of the first run; each further one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only runs with a fault whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Go on after a run in which a rule was broken
    #[arg(long)]
    go_on: bool,
    /// Print the plan and the history of every run
    #[arg(long)]
    verbose: bool,
}

/// How often a fault struck, and in how many of those runs all rules held.
#[derive(Debug, Default)]
struct Count {
    planned: u32,
    struck: u32,
    survived: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let faults = Fault::all();
    let wanted: Vec<Fault> = faults.into_iter().filter(|fault| fault.to_string().contains(&args.only)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no fault has {:?} in its name", args.only);
    let mut counts: BTreeMap<String, Count> =
        wanted.iter().map(|fault| (fault.to_string(), Count::default())).collect();
    // The time to build the binaries does not count.
    harness::binary("gateway");
    let mut pair = Pair::start().await?;
    let (begun, mut broken, mut runs) = (Instant::now(), 0, 0);
    while runs < args.runs && begun.elapsed() < Duration::from_secs(60 * args.minutes) {
        let seed = args.seed + runs;
        // Each run begins with another fault, so that every fault has its turn.
        let first = wanted[usize::try_from(seed % wanted.len() as u64)?];
        let report = run(&mut pair, Plan::new(seed, Some(first)), &Manner::default()).await?;
        runs += 1;
        count(&mut counts, &report);
        println!("{}", line(&report));
        if args.verbose || !report.broken.is_empty() {
            println!("{report}");
        }
        broken += u32::from(!report.broken.is_empty());
        if broken > 0 && !args.go_on {
            break;
        }
    }
    summary(&args, &counts, runs, broken, begun.elapsed());
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(report: &Report) -> String {
    let faults: Vec<_> = report.plan.faults.iter().map(|planned| planned.fault.to_string()).collect();
    let verdict = match report.broken.first() {
        None => "all rules held".to_owned(),
        Some(violation) => format!("BROKEN {}", violation.rule),
    };
    format!("seed {} {:5.1} s {verdict}: {}", report.plan.seed, report.took.as_secs_f64(), faults.join("; "))
}

fn count(counts: &mut BTreeMap<String, Count>, report: &Report) {
    let mut planned: Vec<Fault> = report.plan.faults.iter().map(|planned| planned.fault).collect();
    planned.dedup();
    for fault in planned {
        let count = counts.entry(fault.to_string()).or_default();
        count.planned += 1;
        if report.struck.contains(&fault) {
            count.struck += 1;
            count.survived += u32::from(report.broken.is_empty());
        }
    }
}

fn summary(args: &Args, counts: &BTreeMap<String, Count>, runs: u64, broken: u32, took: Duration) {
    println!(
        "\n{runs} runs from seed {} in {:.1} minutes, {broken} with a broken rule\n",
        args.seed,
        took.as_secs_f64() / 60.0
    );
    println!("| fault | runs | it struck | all rules held |\n|---|---|---|---|");
    for (fault, Count { planned, struck, survived }) in counts {
        println!("| {fault} | {planned} | {struck} | {survived} |");
    }
}
