//! The keys of `set`, and what a value of each can be.

use std::fmt;
use std::ops::RangeInclusive;

use meshnode_protocol::io::Carrying;
use meshnode_protocol::path::Punch;
use serde::{Deserialize, Serialize};

use crate::config::TUN_NAME_BYTES_MAX;
use crate::failure::{Exit, Failure};
use crate::output::clean;
use crate::units;

/// What can be set. A key that would have no effect is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Key {
    /// The port of this node.
    ListenPort,
    /// The name of its device.
    TunName,
    /// Announcing and listening on the LAN.
    Mdns,
    /// Asking the router to lead outside ports here.
    PortMapping,
    /// What leads out of this site by HTTP.
    Proxy,
    /// Whether this node carries for other members.
    Relay,
    /// How much of it.
    RelayRate,
    /// What may be done against routers that map every destination anew.
    Punch,
    /// The person who needs no sudo.
    Operator,
    /// What the group `meshnode` may do.
    GroupRights,
}

impl Key {
    /// All of them, as they are listed.
    pub(crate) const ALL: [Self; 10] = [
        Self::ListenPort,
        Self::TunName,
        Self::Mdns,
        Self::PortMapping,
        Self::Proxy,
        Self::Relay,
        Self::RelayRate,
        Self::Punch,
        Self::Operator,
        Self::GroupRights,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::ListenPort => "listen-port",
            Self::TunName => "tun-name",
            Self::Mdns => "mdns",
            Self::PortMapping => "port-mapping",
            Self::Proxy => "proxy",
            Self::Relay => "relay",
            Self::RelayRate => "relay-rate",
            Self::Punch => "punch",
            Self::Operator => "operator",
            Self::GroupRights => "group-rights",
        }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// When there is none; the hint lists all.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let found = Self::ALL.into_iter().find(|key| key.name() == text);
        found.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            let text = format!("{} is no setting", clean(text));
            Failure::new(Exit::Usage, "unknown_key", text)
                .hint(format!("there are {}", all.join(", ")))
        })
    }

    /// Whether it says who may do what on this machine: nobody may give themselves more than they have.
    pub(crate) const fn is_about_rights(self) -> bool {
        match self {
            Self::Operator | Self::GroupRights => true,
            Self::ListenPort
            | Self::TunName
            | Self::Mdns
            | Self::PortMapping
            | Self::Relay
            | Self::RelayRate
            | Self::Proxy
            | Self::Punch => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnOff {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What the people of the group `meshnode` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupRights {
    /// Nothing.
    None,
    /// Read.
    Look,
    /// Read, and change this node only.
    Use,
}

/// A key with a value that it can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// 1 to 65534: the next number is used, too.
    ListenPort(u16),
    /// 1 to 15 of `a-z A-Z 0-9 - _`.
    TunName(String),
    /// `on` or `off`.
    Mdns(OnOff),
    /// `on` or `off`.
    PortMapping(OnOff),
    /// `environment`, `off` or `http://HOST:PORT`.
    Proxy(String),
    /// `auto`, `on` or `off`.
    Relay(Carrying),
    /// Bits a second.
    RelayRate(u64),
    /// `full`, `gentle` or `off`.
    Punch(Punch),
    /// A user's name.
    Operator(String),
    /// `none`, `look` or `use`.
    GroupRights(GroupRights),
}

impl Setting {
    /// Its key.
    pub(crate) const fn key(&self) -> Key {
        match self {
            Self::ListenPort(_) => Key::ListenPort,
            Self::TunName(_) => Key::TunName,
            Self::Mdns(_) => Key::Mdns,
            Self::PortMapping(_) => Key::PortMapping,
            Self::Proxy(_) => Key::Proxy,
            Self::Relay(_) => Key::Relay,
            Self::RelayRate(_) => Key::RelayRate,
            Self::Punch(_) => Key::Punch,
            Self::Operator(_) => Key::Operator,
            Self::GroupRights(_) => Key::GroupRights,
        }
    }

    /// The setting of a key with this value.
    ///
    /// # Errors
    /// When it cannot have it; the sentence says what it can have.
    pub(crate) fn parse(key: Key, text: &str) -> Result<Self, Failure> {
        let (setting, can_be) = match key {
            Key::ListenPort => {
                let port = text
                    .parse()
                    .ok()
                    .filter(|port| (1..u16::MAX).contains(port));
                (port.map(Self::ListenPort), "a number from 1 to 65534")
            }
            Key::TunName => {
                let name = is_tun_name(text).then(|| Self::TunName(text.to_owned()));
                (name, TUN_NAME)
            }
            Key::Mdns => (on_off(text).map(Self::Mdns), "on or off"),
            Key::PortMapping => (on_off(text).map(Self::PortMapping), "on or off"),
            Key::Proxy => {
                let proxy = is_proxy(text).then(|| Self::Proxy(text.to_owned()));
                (proxy, PROXY)
            }
            Key::Relay => (carrying(text).map(Self::Relay), "auto, on or off"),
            Key::RelayRate => {
                let rate = units::parse_rate(text).ok();
                let rate = rate.filter(|rate| RELAY_RATES.contains(rate));
                (rate.map(Self::RelayRate), "from 100kbit/s to 1Gbit/s")
            }
            Key::Punch => (punch(text).map(Self::Punch), "full, gentle or off"),
            Key::Operator => {
                let name = is_user_name(text).then(|| Self::Operator(text.to_owned()));
                (name, "the name of a user")
            }
            Key::GroupRights => {
                let rights = match text {
                    "none" => Some(GroupRights::None),
                    "look" => Some(GroupRights::Look),
                    "use" => Some(GroupRights::Use),
                    _ => None,
                };
                (rights.map(Self::GroupRights), "none, look or use")
            }
        };
        setting.ok_or_else(|| {
            let text = format!("{key} cannot be {}", clean(text));
            Failure::usage(text).hint(format!("{key} is {can_be}"))
        })
    }

    /// The value alone, as it is typed.
    pub(crate) fn value(&self) -> String {
        match self {
            Self::ListenPort(port) => port.to_string(),
            Self::TunName(text) | Self::Proxy(text) | Self::Operator(text) => text.clone(),
            Self::RelayRate(rate) => units::whole_rate(*rate),
            Self::Mdns(_)
            | Self::PortMapping(_)
            | Self::Relay(_)
            | Self::Punch(_)
            | Self::GroupRights(_) => self.word().to_owned(),
        }
    }

    /// The value, if it is one of a few words.
    const fn word(&self) -> &'static str {
        match self {
            Self::ListenPort(_)
            | Self::TunName(_)
            | Self::Proxy(_)
            | Self::Operator(_)
            | Self::RelayRate(_) => "",
            Self::Mdns(OnOff::On) | Self::PortMapping(OnOff::On) | Self::Relay(Carrying::On) => {
                "on"
            }
            Self::Mdns(OnOff::Off)
            | Self::PortMapping(OnOff::Off)
            | Self::Relay(Carrying::Off)
            | Self::Punch(Punch::Off) => "off",
            Self::Relay(Carrying::Auto) => "auto",
            Self::Punch(Punch::Full) => "full",
            Self::Punch(Punch::Gentle) => "gentle",
            Self::GroupRights(GroupRights::None) => "none",
            Self::GroupRights(GroupRights::Look) => "look",
            Self::GroupRights(GroupRights::Use) => "use",
        }
    }

    /// The line of a settings file. No value holds a quote or a backslash.
    pub(crate) fn line(&self) -> String {
        format!("{} = \"{}\"\n", self.key(), self.value())
    }
}

/// No proxy, whatever the environment says.
pub(crate) const PROXY_OFF: &str = "off";
/// The proxy of `https_proxy`, if it says one.
pub(crate) const PROXY_ENVIRONMENT: &str = "environment";
const PROXY: &str = "environment, off or http://HOST:PORT; with a password only by https_proxy";
/// Bytes of a host and a port.
const PROXY_BYTES_MAX: usize = 260;
/// What a device's name is made of.
pub(crate) const TUN_NAME: &str = "1 to 15 of a-z A-Z 0-9 - _";

/// Whether a text can be a device's name.
pub(crate) fn is_tun_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    !text.is_empty() && text.len() <= TUN_NAME_BYTES_MAX && text.bytes().all(known)
}

/// What account tools allow in a name, with domains; nothing that a settings file would have to escape.
fn is_user_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+$".contains(&b);
    !text.is_empty() && text.len() <= USER_NAME_BYTES_MAX && text.bytes().all(known)
}

/// Whether a text says where a proxy is. A name and a password would be read by everybody who may look, so they come
/// by the environment alone.
fn is_proxy(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let is_place = |place: &str| {
        let port = place
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        let port = matches!(port, Some((host, Ok(1..))) if !host.is_empty());
        port && place.len() <= PROXY_BYTES_MAX && place.chars().all(is_plain)
    };
    [PROXY_OFF, PROXY_ENVIRONMENT].contains(&text)
        || text.strip_prefix("http://").is_some_and(is_place)
}

fn on_off(text: &str) -> Option<OnOff> {
    match text {
        "on" | "true" => Some(OnOff::On),
        "off" | "false" => Some(OnOff::Off),
        _ => None,
    }
}

fn carrying(text: &str) -> Option<Carrying> {
    match text {
        "auto" => Some(Carrying::Auto),
        _ => on_off(text).map(|whether| match whether {
            OnOff::On => Carrying::On,
            OnOff::Off => Carrying::Off,
        }),
    }
}

fn punch(text: &str) -> Option<Punch> {
    match text {
        "full" => Some(Punch::Full),
        "gentle" => Some(Punch::Gentle),
        "off" => Some(Punch::Off),
        _ => None,
    }
}

/// Below the least, a handshake and a probe would already be too much; the most is what a member carries unasked.
const RELAY_RATES: RangeInclusive<u64> = 100_000..=1_000_000_000;

/// Linux knows names of 32 bytes; directories longer ones.
const USER_NAME_BYTES_MAX: usize = 128;
