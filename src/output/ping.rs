//! The lines of `ping`.

use super::clean;
use super::status::path_text;
use crate::control::PathReport;
use crate::control::report::Tier;
use crate::units;

/// `cabin 100.101.6.3: 63.4 ms direct, LAN 192.168.1.20:41641`.
pub(crate) fn answer(name: &str, address: &str, rtt_us: u64, path: &PathReport) -> String {
    let rtt = units::rtt_fine(rtt_us);
    let by = match path.tier {
        Tier::Lan | Tier::Direct => "",
        Tier::UdpRelay | Tier::Circuit => "by ",
    };
    format!("{} {address}: {rtt} {by}{}\n", clean(name), path_text(path))
}

/// `cabin 100.101.6.3: no answer`.
pub(crate) fn silence(name: &str, address: &str) -> String {
    format!("{} {address}: no answer\n", clean(name))
}

/// `2 of 2 answered, 63.1 to 63.4 ms`.
pub(crate) fn summary(sent: u32, rtts_us: &[u64]) -> String {
    let answered = format!("{} of {sent} answered", rtts_us.len());
    match (rtts_us.iter().min(), rtts_us.iter().max()) {
        (Some(least), Some(most)) => {
            let least = units::rtt_fine(*least);
            let least = least.trim_end_matches(" ms");
            format!("{answered}, {least} to {}\n", units::rtt_fine(*most))
        }
        _ => format!("{answered}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_says_how_long_and_by_which_path() {
        let path = PathReport {
            tier: Tier::Lan,
            endpoint: Some("192.168.1.20:41641".parse().unwrap()),
            via: None,
            road: None,
        };
        assert_eq!(
            answer("laptop", "100.90.17.33", 412, &path),
            "laptop 100.90.17.33: 0.4 ms direct, LAN 192.168.1.20:41641\n"
        );
        let relayed = PathReport {
            tier: Tier::UdpRelay,
            endpoint: Some("203.0.113.7:443".parse().unwrap()),
            via: Some("vps".to_owned()),
            road: None,
        };
        assert_eq!(
            answer("cabin", "100.101.6.3", 63_400, &relayed),
            "cabin 100.101.6.3: 63.4 ms by relay vps\n"
        );
        assert_eq!(
            silence("laptop", "100.90.17.33"),
            "laptop 100.90.17.33: no answer\n"
        );
    }

    #[test]
    fn the_summary_counts_and_spans() {
        assert_eq!(
            summary(2, &[63_400, 63_100]),
            "2 of 2 answered, 63.1 to 63.4 ms\n"
        );
        assert_eq!(summary(4, &[]), "0 of 4 answered\n");
    }
}
