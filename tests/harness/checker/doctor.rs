use std::process::Command;
use std::sync::OnceLock;

use super::{Rule, Violation};
use crate::{System, binary};

/// R7: what `waybill doctor --deep` says, of a system that has come to rest.
pub fn sound(system: &System) -> Vec<Violation> {
    if !is_there() {
        return Vec::new();
    }
    let mut doctor = Command::new(binary("waybill"));
    doctor.args(["doctor", "--deep", "--config"]).arg(&system.config);
    let said = match doctor.output() {
        Ok(output) if output.status.success() => return Vec::new(),
        Ok(output) => [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat(),
        Err(error) => error.to_string(),
    };
    vec![Violation::new(Rule::Sound, format!("waybill doctor: {said}"))]
}

/// Whether this release has the command; said aloud, once, where it has not.
fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        let asked = Command::new(binary("waybill")).args(["doctor", "--help"]).output();
        let there = asked.is_ok_and(|output| output.status.success());
        if !there {
            eprintln!("NOT TESTED: there is no command `waybill doctor`");
        }
        there
    })
}
