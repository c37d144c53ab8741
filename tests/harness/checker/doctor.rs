use std::process::Command;

use super::{Rule, Violation};
use crate::{System, binary};

/// R7: what `waybill doctor --deep` says about a system that has come to rest.
pub fn sound(system: &System) -> Vec<Violation> {
    let mut doctor = Command::new(binary("waybill"));
    doctor.args(["doctor", "--deep", "--config"]).arg(&system.config);
    let said = match doctor.output() {
        Ok(output) if output.status.success() => return Vec::new(),
        Ok(output) => [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat(),
        Err(error) => error.to_string(),
    };
    vec![Violation::new(Rule::Sound, format!("waybill doctor: {said}"))]
}
