use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What the kernel holds of a connection's bytes: those that the peer has not acknowledged. It takes megabytes from us
/// at once, so what we wrote says little about what a remote at the end of a slow line has taken.
///
/// It keeps the socket open, so it is to be dropped with the connection.
#[derive(Debug)]
pub(super) struct SendQueue {
    socket: OwnedFd,
}

impl SendQueue {
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        Ok(Self { socket: socket.as_fd().try_clone_to_owned()? })
    }

    /// How many bytes the peer has not acknowledged; 0 if the kernel cannot say.
    #[expect(unsafe_code, reason = "no library has a safe call for it: docs/decisions/0022")]
    pub(super) fn held(&self) -> u64 {
        let mut held: libc::c_int = 0;
        // SAFETY: the descriptor is open for as long as `self` is. `SIOCOUTQ` of tcp(7), which has the number of
        // `TIOCOUTQ`, writes one int to the address, which is that of an int of our own.
        let asked = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut held) };
        if asked == 0 { u64::try_from(held).unwrap_or(0) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_the_peer_does_not_take_is_held() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let queue = SendQueue::of(&ours).unwrap();
        assert_eq!(queue.held(), 0);
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = ours.write(&[0; 64 * 1024]) {
            written += count;
        }
        let held = queue.held();
        assert!(held > 0 && held < written as u64, "{held} of {written}");
        theirs.read_exact(&mut vec![0; written]).unwrap();
        // The last acknowledgement may be late.
        let deadline = std::time::Instant::now() + testing::DEADLINE;
        while queue.held() > 0 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(queue.held(), 0);
    }
}
