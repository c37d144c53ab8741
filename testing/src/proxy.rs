//! A TCP proxy that fails on demand: it stands between two parties, and does to their bytes what a network does.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The size of a read. A read of this size is mostly payload: control messages are far smaller.
const PIECE: usize = 64 * 1024;

/// The least size of a read in which a byte may be flipped.
const PAYLOAD: usize = 16 * 1024;

/// The least distance of a flipped byte from anything that looks like a header or a field's name.
const MARGIN: usize = 256;

/// How headers of chunk requests and fields of a stored chunk begin.
const FRAMING: [&[u8]; 6] = [b"Waybill-", b"HPUB ", b"HMSG ", b"sha256", b"_id", b"data\0"];

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// What the proxy does to connections until [`Proxy::heal`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NetFault {
    /// All connections are cut and new ones are refused, as if nobody listened.
    Refuse,
    /// Bytes are held in both directions; connections stay open.
    Freeze,
    /// Every piece is delayed by this time.
    Delay(Duration),
    /// Bytes a second, in each direction of each connection.
    Throttle(u64),
    /// Each connection is cut after this many further bytes in one direction.
    Truncate(u64),
    /// Each connection carries this many further bytes in one direction, and then no more.
    StallAfter(u64),
    /// One byte of a payload in this direction is flipped, once, in the middle of a large read and away from all framing:
    /// see docs/reliability.md.
    Flip(Way),
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mode {
    fault: Option<NetFault>,
    /// The pace of a healthy connection, in bytes a second in each direction; `None`: unlimited.
    pace: Option<u64>,
    /// How many times all connections were cut.
    cuts: u64,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    seen: Arc<Seen>,
    serving: AbortHandle,
}

/// What all connections count together.
#[derive(Debug, Default)]
struct Seen {
    armed: AtomicBool,
    flipped: AtomicU64,
    there: AtomicU64,
}

impl Proxy {
    /// Starts a proxy on a port of its own that leads to `target`, whether or not anybody listens there yet.
    pub fn start(target: SocketAddr) -> Self {
        // A second socket stays bound to the port, and keeps it while nobody listens.
        let keeper = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = keeper.local_addr().unwrap();
        let listener = bind(address).listen(128).unwrap();
        let (mode, modes) = watch::channel(Mode::default());
        let seen = Arc::<Seen>::default();
        let shared = seen.clone();
        let serving = tokio::spawn(async move {
            let _keeper = keeper;
            serve(listener, target, modes, shared).await;
        });
        Self { address, mode, seen, serving: serving.abort_handle() }
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a fault, which replaces the present one.
    pub fn begin(&self, fault: NetFault) {
        self.seen.armed.store(matches!(fault, NetFault::Flip(_)), Ordering::SeqCst);
        self.mode.send_modify(|mode| {
            mode.fault = Some(fault);
            mode.cuts += u64::from(fault == NetFault::Refuse);
        });
    }

    /// Closes all connections; new ones are accepted.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }

    /// Ends the fault.
    pub fn heal(&self) {
        self.seen.armed.store(false, Ordering::SeqCst);
        self.mode.send_modify(|mode| mode.fault = None);
    }

    /// Limits connections to this many bytes a second in each direction, with or without a fault: so that work takes time.
    pub fn pace(&self, bytes_a_second: Option<u64>) {
        self.mode.send_modify(|mode| mode.pace = bytes_a_second);
    }

    /// How many bytes the server has got so far.
    pub fn carried(&self) -> u64 {
        self.seen.there.load(Ordering::SeqCst)
    }

    /// How many bytes have been damaged so far.
    pub fn flipped(&self) -> u64 {
        self.seen.flipped.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Two sockets may be bound to one address if both allow it and neither listens yet.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap_or_else(|e| panic!("{address} cannot be bound: {e}"));
    socket
}

async fn serve(listener: TcpListener, target: SocketAddr, mut modes: watch::Receiver<Mode>, seen: Arc<Seen>) {
    let address = listener.local_addr().unwrap();
    let mut listening = Some(listener);
    let mut connections = tokio::task::JoinSet::new();
    let refuses = |mode: &Mode| mode.fault == Some(NetFault::Refuse);
    loop {
        if modes.wait_for(|mode| !refuses(mode)).await.is_err() {
            return;
        }
        let listener = listening.take().unwrap_or_else(|| bind(address).listen(128).unwrap());
        let accepting = accept(&listener, target, &seen, modes.clone(), &mut connections);
        let refusing = modes.wait_for(refuses);
        // Connections are refused because the listener is dropped.
        tokio::select! {
            refusing = refusing => if refusing.is_err() { return },
            () = accepting => return,
        }
    }
}

async fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    seen: &Arc<Seen>,
    modes: watch::Receiver<Mode>,
    connections: &mut tokio::task::JoinSet<()>,
) {
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (seen, mut modes) = (seen.clone(), modes.clone());
        let born = modes.borrow().cuts;
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let pumping = pump_both(near, far, modes.clone(), &seen);
            // The connection is cut because both sockets are dropped.
            tokio::select! {
                _broken = pumping => {}
                _gone = modes.wait_for(|mode| mode.cuts != born) => {}
            }
        });
    }
}

async fn pump_both(
    mut near: TcpStream,
    mut far: TcpStream,
    modes: watch::Receiver<Mode>,
    seen: &Seen,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
    let there = pump(near_read, far_write, Way::There, modes.clone(), seen);
    let back = pump(far_read, near_write, Way::Back, modes, seen);
    tokio::try_join!(there, back).map(drop)
}

/// Carries bytes in one direction, and passes on their end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut modes: watch::Receiver<Mode>,
    seen: &Seen,
) -> io::Result<()> {
    let mut piece = vec![0_u8; PIECE];
    // How many bytes passed since the fault began.
    let mut passed = 0_u64;
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        if modes.has_changed().unwrap_or(true) {
            modes.mark_unchanged();
            passed = 0;
        }
        let thawed = modes.wait_for(|mode| mode.fault != Some(NetFault::Freeze)).await;
        let Mode { fault, pace, .. } = *thawed.map_err(|_| io::ErrorKind::ConnectionAborted)?;
        let bytes = &mut piece[..count];
        match fault {
            Some(NetFault::Delay(span)) => tokio::time::sleep(span).await,
            Some(NetFault::Throttle(rate)) => carry(count, rate).await,
            Some(NetFault::Truncate(limit)) if passed + count as u64 > limit => {
                let last = usize::try_from(limit - passed.min(limit)).unwrap_or(count);
                to.write_all(&bytes[..last]).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(NetFault::StallAfter(limit)) if passed + count as u64 > limit => {
                let last = usize::try_from(limit - passed.min(limit)).unwrap_or(count);
                to.write_all(&bytes[..last]).await?;
                let _mended = modes.wait_for(|mode| mode.fault != fault).await;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(NetFault::Flip(wanted)) if wanted == way => flip_once(bytes, seen),
            _ => {}
        }
        if let Some(rate) = pace {
            carry(count, rate).await;
        }
        to.write_all(bytes).await?;
        passed += count as u64;
        if way == Way::There {
            seen.there.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
}

/// Waits as long as this many bytes take.
async fn carry(count: usize, bytes_a_second: u64) {
    let millis = (count as u64).saturating_mul(1000) / bytes_a_second.max(1);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Flips a byte, if one is still to be flipped and these bytes have a place for it.
fn flip_once(bytes: &mut [u8], seen: &Seen) {
    if !seen.armed.load(Ordering::SeqCst) {
        return;
    }
    if let Some(at) = payload(bytes).filter(|_| seen.armed.swap(false, Ordering::SeqCst)) {
        bytes[at] ^= 0x10;
        seen.flipped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A place in a payload: the middle of the longest stretch without anything that looks like framing.
fn payload(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < PAYLOAD {
        return None;
    }
    let is_framing = |at: &usize| FRAMING.iter().any(|word| bytes[*at..].starts_with(word));
    let ends = [bytes.len()];
    let mut longest: Range<usize> = 0..0;
    let mut from = 0;
    for at in (0..bytes.len()).filter(is_framing).chain(ends) {
        if at - from > longest.len() {
            longest = from..at;
        }
        from = at;
    }
    (longest.len() > 2 * MARGIN).then(|| usize::midpoint(longest.start, longest.end))
}
