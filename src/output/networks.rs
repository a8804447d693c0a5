//! The networks of this machine, as a table and as an object.

use serde_json::{Value, json};

use super::table::Table;
use super::{Style, clean, json};
use crate::config::place::Place;
use crate::control::report::StatusReport;
use crate::failure::Failure;

/// A network of this machine, and what its daemon says.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Where it is.
    pub(crate) place: Place,
    /// What its daemon says, or why it says nothing.
    pub(crate) report: Result<StatusReport, Failure>,
}

/// The table, or with `--json` the object.
pub(crate) fn list(all: &[Listed], style: Style) -> String {
    if style.json {
        let networks: Vec<Value> = all.iter().map(object).collect();
        return format!("{}\n", json!({"schema": 1, "networks": networks}));
    }
    let mut table = Table::new(&["HERE", "NETWORK", "STATE", "DEVICE"]);
    for listed in all {
        let report = listed.report.as_ref().ok();
        let network = report.and_then(|report| report.network.as_ref());
        let tun = report.and_then(|report| report.tun.clone());
        table.row(vec![
            clean(&listed.place.local_name),
            network.map_or("-".to_owned(), |network| clean(network.name.as_str())),
            match &listed.report {
                Ok(report) => json::state(report.state).to_owned(),
                Err(failure) => clean(&failure.text),
            },
            tun.map_or("-".to_owned(), |tun| clean(&tun)),
        ]);
    }
    if style.plain {
        table.plain()
    } else {
        table.render(usize::MAX, &[])
    }
}

fn object(listed: &Listed) -> Value {
    let report = listed.report.as_ref().ok();
    let network = report.and_then(|report| report.network.as_ref());
    json!({
        "local_name": listed.place.local_name,
        "name": network.map(|network| network.name.as_str()),
        "id": network.map(|network| network.id.to_string()),
        "state": report.map(|report| json::state(report.state)),
        "state_dir": listed.place.state_dir,
        "socket": listed.place.socket,
        "tun": report.and_then(|report| report.tun.as_deref()),
        "dns_suffix": Value::Null,
    })
}
