use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files this process may have open, connections included; `None`: as many as it likes.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the number of files that this process may have open to what the system allows it. The default, 1,024 on most
/// systems, is meant for programs that use `select`.
pub(crate) fn raise_open_files_max() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".into(), |files| files.to_string());
        let (current, maximum) = (shown(current), shown(maximum));
        tracing::warn!("the limit of open files (ulimit -n) stays at {current}; expected {maximum}: {error}");
    }
}
