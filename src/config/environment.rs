//! The environment: which variables are ours, and what stands in them.

use std::env;

use zeroize::Zeroizing;

/// Variables of ours that mean something.
pub(crate) const KNOWN: &[&str] = &[
    "MESHNODE_INVITE",
    "MESHNODE_INVITE_FILE",
    "MESHNODE_LOG",
    "MESHNODE_NAME",
    "MESHNODE_NETWORK",
    "MESHNODE_PLAIN",
    "MESHNODE_SOCKET",
    "MESHNODE_STATE_DIR",
];

/// A variable's text; nothing when unset, empty or not UTF-8.
pub(crate) fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

/// The proxy that all programs are told, and what does without it: `https_proxy` and `no_proxy`, in either case. The
/// first may hold a password.
pub(crate) fn proxy() -> Option<(Zeroizing<String>, String)> {
    let either = |low: &str, high: &str| text(low).or_else(|| text(high));
    let proxy = either("https_proxy", "HTTPS_PROXY").map(Zeroizing::new)?;
    Some((proxy, no_proxy()))
}

/// What does without a proxy.
pub(crate) fn no_proxy() -> String {
    let said = text("no_proxy").or_else(|| text("NO_PROXY"));
    said.unwrap_or_default()
}

/// Our own variables that mean nothing, each with the nearest one that does.
pub(crate) fn unknown() -> Vec<String> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown_among(names)
}

fn unknown_among(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with("MESHNODE_") && !KNOWN.contains(&name.as_str()))
        .collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_unknown_variables_are_named() {
        let names = ["MESHNODE_SOCKET", "MESHNODE_SOKET", "PATH", "MESHNODE_LOGS"];
        let names = names.into_iter().map(str::to_owned);
        assert_eq!(unknown_among(names), ["MESHNODE_LOGS", "MESHNODE_SOKET"]);
    }
}
