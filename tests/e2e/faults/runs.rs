//! A selection of the runs that the soak makes for hours.

use std::mem::discriminant;

use contract::Role::{Chunker, Finaliser, Gateway, Store};
use harness::run::{CRASH_POINTS, Fault, Hints, Link, Meddling, Mood, Plan, Server, Trouble};

use super::survive;

/// Every kind of fault, a few at a time.
fn selection() -> Vec<Vec<Fault>> {
    use Fault::{
        Clock, Crash, DiskFull, Freeze, FreezeServer, Hasty, Kill, KillServer, LoseNats, Net, Remote, Source,
        Terminate, WrongExpectation,
    };
    let net = |link, trouble| Net(link, trouble);
    vec![
        vec![Kill(Chunker), net(Link::Mongo(Store), Trouble::Cut), Remote(Mood::Fails)],
        vec![Kill(Finaliser), net(Link::Nats(Chunker), Trouble::Freeze), Fault::Hints(Hints::Repeated)],
        vec![KillServer(Server::Nats), Source(Meddling::Changed), Remote(Mood::Later)],
        vec![KillServer(Server::Mongo), Terminate(Finaliser), Source(Meddling::Removed)],
        vec![LoseNats, net(Link::Remote, Trouble::Truncate), Source(Meddling::Replaced)],
        vec![Freeze(Finaliser), WrongExpectation, Remote(Mood::Unseen)],
        vec![Freeze(Chunker), net(Link::Nats(Store), Trouble::Flip), Hasty],
        vec![DiskFull, net(Link::Mongo(Finaliser), Trouble::Throttle), Remote(Mood::Unauthorised)],
        vec![Clock(Chunker, 60), Clock(Finaliser, -60), Remote(Mood::Hangs), Source(Meddling::Truncated)],
        vec![FreezeServer(Server::Mongo), Kill(Gateway), Remote(Mood::Cuts)],
        vec![net(Link::Mongo(Store), Trouble::Flip), Crash(CRASH_POINTS[9]), Fault::Hints(Hints::Unreadable)],
        vec![
            net(Link::Nats(Finaliser), Trouble::Refuse),
            net(Link::Mongo(Chunker), Trouble::Delay),
            Remote(Mood::Late),
        ],
    ]
}

/// The kind of a fault: what is done, whoever it is done to.
fn same_kind(one: &Fault, other: &Fault) -> bool {
    match (one, other) {
        (Fault::Net(_, one), Fault::Net(_, other)) => one == other,
        (Fault::Remote(one), Fault::Remote(other)) => one == other,
        (Fault::Source(one), Fault::Source(other)) => one == other,
        (Fault::Hints(one), Fault::Hints(other)) => one == other,
        (Fault::KillServer(one), Fault::KillServer(other)) => one == other,
        _ => discriminant(one) == discriminant(other),
    }
}

#[test]
fn every_kind_of_fault_is_in_the_selection() {
    let selected: Vec<Fault> = selection().concat();
    for fault in Fault::all() {
        assert!(selected.iter().any(|known| same_kind(known, &fault)), "{fault} is in no run");
    }
}

/// Makes these runs of the selection; each has a seed of its own.
async fn selected(which: std::ops::Range<usize>) {
    let plans = (100..).zip(selection()).map(|(seed, faults)| Plan::with(seed, &faults));
    let reports = survive(plans.skip(which.start).take(which.len())).await;
    assert_eq!(reports.len(), which.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_servers_are_killed() {
    selected(0..4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_lost_and_workers_frozen() {
    selected(4..8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_bytes_and_remotes_are_wrong() {
    selected(8..12).await;
}
