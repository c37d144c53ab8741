//! What the handles of all servers can do.

/// The methods of [`Nats`](crate::Nats), [`Mongo`](crate::Mongo) and the others, which differ only in how they start.
macro_rules! handle {
    ($handle:ty, $options:ty, $stop_limit:expr) => {
        impl $handle {
            /// Finds the server and starts it. Returns when it serves. nats-server and mongod are adopted instead, where
            /// an earlier launcher left one with the same settings on this data directory.
            ///
            /// # Errors
            ///
            /// The server is not to be found, the directory is in use, or the server does not start: the error has the
            /// end of its log.
            pub async fn start(options: $options) -> Result<Self, $crate::Error> {
                let thread = concat!("start ", stringify!($handle));
                $crate::on_thread(thread, move || Self::start_blocking(options)).await?
            }

            /// What it was started with. Starting again with these comes back to the same data, and if it is free to
            /// the same port.
            pub fn options(&self) -> &$options {
                &self.options
            }

            /// The port on 127.0.0.1.
            pub fn port(&self) -> u16 {
                self.running.port
            }

            /// The process id.
            pub fn pid(&self) -> u32 {
                self.running.process.pid()
            }

            /// Whether it was running already, left by an earlier launcher.
            pub fn adopted(&self) -> bool {
                self.running.adopted
            }

            /// How it ended, if it has.
            pub fn try_wait(&self) -> Option<$crate::Exit> {
                self.running.process.try_wait()
            }

            /// Waits until it has ended. May be dropped and called again.
            pub async fn exited(&self) -> $crate::Exit {
                self.running.process.exited().await
            }

            /// Ends it in good order (SIGTERM), or by SIGKILL if that takes too long; then [`Exit`](crate::Exit) tells
            /// of signal 9. Dropping the future half-way kills the server.
            ///
            /// # Errors
            ///
            /// The signal is refused, or the process survives SIGKILL.
            pub async fn stop(self) -> Result<$crate::Exit, $crate::Error> {
                self.running.process.stop($stop_limit).await
            }

            /// Ends it as a power cut would (SIGKILL), and waits for its end. For tests of faults: after it another
            /// start on the same data directory is free, even while this handle exists.
            ///
            /// # Errors
            ///
            /// The signal is refused, or the process survives it.
            pub async fn kill(&self) -> Result<$crate::Exit, $crate::Error> {
                self.running.process.kill().await
            }

            /// Freezes it (SIGSTOP), and returns when it is frozen: within milliseconds, blocking. For tests of faults.
            ///
            /// # Errors
            ///
            /// The signal is refused, or it does not stop, as when it has ended.
            pub fn pause(&self) -> Result<(), $crate::Error> {
                self.running.process.pause()
            }

            /// Lets it go on after [`pause`](Self::pause).
            ///
            /// # Errors
            ///
            /// The signal is refused.
            pub fn resume(&self) -> Result<(), $crate::Error> {
                self.running.process.signal(rustix::process::Signal::CONT)
            }

            /// Lets it live on without us, for another start on the same data directory to adopt.
            pub fn leave(self) {
                self.running.process.leave();
            }
        }
    };
}
pub(crate) use handle;
