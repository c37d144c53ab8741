//! A name or a text of others never makes a line of its own, and never changes how a line reads.

use harness::{Options, System, Variable};

use crate::operator::waybill;

/// A line end and what looks like the beginning of a line of a log, and a mark that turns the direction of the text
/// after it. `files ls` shows 40 characters of a name.
const NAME: &str = "bill\n2026-01-01 \u{202e}FORGED gpj.exe";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_forges_no_line() {
    for format in ["plain", "json"] {
        let mut options = Options::default().toml("[telemetry]\nfilter = \"debug,async_nats=info\"\n");
        options.environment = vec![Variable::new("finaliser", "WAYBILL__TELEMETRY__FORMAT", format)];
        let system = System::start(options).await;
        std::fs::write(system.remote().join(NAME), "of somebody else").unwrap();
        let (file, _) = system.send(NAME, 3_000_000, "folder").await;
        system.api.until_state(&file, "failed").await;

        let listed = waybill(&system, &["files", "ls"]).await.expect(0).stdout;
        let as_json = waybill(&system, &["files", "ls", "--json"]).await.expect(0).stdout;
        let examined = waybill(&system, &["doctor"]).await.stdout;
        let mut said = vec![("files ls", listed), ("files ls --json", as_json), ("doctor", examined)];
        said.extend(system.processes.iter().map(|(name, process)| (name.as_str(), process.log())));
        for (who, said) in &said {
            assert!(!said.contains('\u{202e}'), "{who}: {said}");
            assert!(!said.lines().any(|line| line.starts_with("2026-01-01")), "{who}: {said}");
        }
        for who in ["files ls", "files ls --json", "finaliser-0"] {
            let quoted = said.iter().any(|(name, said)| *name == who && said.contains("FORGED"));
            assert!(quoted, "{who} does not mention the file: {said:#?}");
        }
    }
}
