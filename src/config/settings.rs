//! What a person can set for one network on this machine, and where a value comes from: the daemon's own flags, the
//! file in `/etc`, `meshnode set`, or the default. The first of these that names a key wins.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use meshnode_protocol::io::{CarryWish, Carrying};
use meshnode_protocol::path::Punch;
use nix::unistd::{Uid, User};

use self::file::Line;
use super::place::Place;
use super::{state_dir, tun_name};
use crate::failure::{Exit, Failure};

pub(crate) use self::key::{
    GroupRights, Key, OnOff, PROXY_ENVIRONMENT, PROXY_OFF, Setting, TUN_NAME, is_tun_name,
};

mod file;
mod key;

/// The name of the file that `set` writes, in the state directory.
const SAVED: &str = "settings";

/// All settings of one network, each layer by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    flags: BTreeMap<Key, Setting>,
    by_hand: BTreeMap<Key, Line>,
    set: BTreeMap<Key, Setting>,
    /// The file by hand; places that are not the system's have none.
    etc: Option<PathBuf>,
    saved: PathBuf,
    local_name: String,
    /// Who typed `sudo` when the daemon first started.
    first_operator: Option<Uid>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Nobody said anything.
    Default,
    /// `meshnode set`.
    Set,
    /// The file by hand, and its line.
    File(PathBuf, usize),
    /// A flag of the running daemon.
    Flag,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Set => f.write_str("set"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Flag => f.write_str("flag of the daemon"),
        }
    }
}

impl Settings {
    /// Reads all layers of a place below these flags.
    ///
    /// # Errors
    /// When a file cannot be read or says what is no setting; the line is named.
    pub(crate) fn load(place: &Place, flags: Vec<Setting>) -> Result<Self, Failure> {
        let mut settings = Self {
            flags: flags.into_iter().map(|flag| (flag.key(), flag)).collect(),
            by_hand: BTreeMap::new(),
            set: BTreeMap::new(),
            etc: place.settings.clone(),
            saved: place.state_dir.join(SAVED),
            local_name: place.local_name.clone(),
            first_operator: state_dir::operator(&place.state_dir),
        };
        settings.reload()?;
        Ok(settings)
    }

    /// Reads the files again; on an error nothing changes.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn reload(&mut self) -> Result<(), Failure> {
        let by_hand = match &self.etc {
            Some(path) => file::read(path)?,
            None => BTreeMap::new(),
        };
        let set = file::read(&self.saved)?;
        self.by_hand = by_hand;
        self.set = set
            .into_iter()
            .map(|(key, line)| (key, line.setting))
            .collect();
        Ok(())
    }

    /// Takes changes of a person; `None` forgets a key. Nothing is written yet.
    ///
    /// # Errors
    /// When a value is none, or a key is fixed by a file or a flag: then a change would have no effect.
    pub(crate) fn change(&mut self, changes: &[(Key, Option<String>)]) -> Result<(), Failure> {
        for (key, value) in changes {
            self.check_free(*key)?;
            match value {
                Some(text) => {
                    let setting = Setting::parse(*key, text)?;
                    check_exists(&setting)?;
                    self.set.insert(*key, setting);
                }
                None => {
                    self.set.remove(key);
                }
            }
        }
        Ok(())
    }

    fn check_free(&self, key: Key) -> Result<(), Failure> {
        let fixed = |text| Failure::new(Exit::Refused, "fixed_setting", text);
        if self.flags.contains_key(&key) {
            let text = format!("{key} is fixed by a flag of the running daemon");
            return Err(fixed(text).hint("start the daemon without that flag"));
        }
        let (Some(line), Some(path)) = (self.by_hand.get(&key), &self.etc) else {
            return Ok(());
        };
        let (path, number) = (path.display(), line.number);
        Err(
            fixed(format!("{key} is fixed in {path}, line {number}")).hint(format!(
                "change it there, then: sudo kill -HUP the daemon, or restart it ({path})"
            )),
        )
    }

    /// Writes what `set` said; the old file stays until the new one is whole.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let failed = |cause: std::io::Error| {
            Failure::world(&format!("cannot write {}", self.saved.display()), &cause)
        };
        if self.set.is_empty() {
            return match fs::remove_file(&self.saved) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let lines = self.set.values().map(Setting::line);
        let text: String = lines.collect();
        replace(&self.saved, text.as_bytes()).map_err(failed)
    }

    /// A key's value in force, if there is one, and where it comes from.
    pub(crate) fn get(&self, key: Key) -> (Option<Setting>, From) {
        if let Some(setting) = self.flags.get(&key) {
            return (Some(setting.clone()), From::Flag);
        }
        if let (Some(line), Some(path)) = (self.by_hand.get(&key), &self.etc) {
            return (
                Some(line.setting.clone()),
                From::File(path.clone(), line.number),
            );
        }
        match self.set.get(&key) {
            Some(setting) => (Some(setting.clone()), From::Set),
            None => (self.default(key), From::Default),
        }
    }

    fn default(&self, key: Key) -> Option<Setting> {
        match key {
            // A random one, saved at the first start.
            Key::ListenPort => None,
            Key::TunName => Some(Setting::TunName(tun_name(&self.local_name))),
            Key::Mdns => Some(Setting::Mdns(OnOff::On)),
            Key::PortMapping => Some(Setting::PortMapping(OnOff::On)),
            Key::Proxy => Some(Setting::Proxy(PROXY_ENVIRONMENT.to_owned())),
            Key::Relay => Some(Setting::Relay(Carrying::Auto)),
            Key::RelayRate => Some(Setting::RelayRate(RELAY_RATE)),
            Key::Punch => Some(Setting::Punch(Punch::Full)),
            Key::Operator => {
                let user = User::from_uid(self.first_operator?).ok().flatten()?;
                Some(Setting::Operator(user.name))
            }
            Key::GroupRights => Some(Setting::GroupRights(GroupRights::Use)),
        }
    }

    /// The port that was asked for; none: a random one.
    pub(crate) fn listen_port(&self) -> Option<u16> {
        if let (Some(Setting::ListenPort(port)), _) = self.get(Key::ListenPort) {
            return Some(port);
        }
        None
    }

    /// The wanted name of the device.
    pub(crate) fn tun_name(&self) -> String {
        if let (Some(Setting::TunName(name)), _) = self.get(Key::TunName) {
            return name;
        }
        tun_name(&self.local_name)
    }

    /// Whether this node announces itself on the LAN and listens for others there.
    pub(crate) fn mdns(&self) -> bool {
        self.get(Key::Mdns).0 != Some(Setting::Mdns(OnOff::Off))
    }

    /// Whether the router is asked to lead outside ports to this node.
    pub(crate) fn port_mapping(&self) -> bool {
        self.get(Key::PortMapping).0 != Some(Setting::PortMapping(OnOff::Off))
    }

    /// What `proxy` says.
    pub(crate) fn proxy(&self) -> String {
        let usual = || PROXY_ENVIRONMENT.to_owned();
        self.get(Key::Proxy)
            .0
            .map_or_else(usual, |said| said.value())
    }

    /// What this node carries for other members.
    pub(crate) fn carrying(&self) -> CarryWish {
        let mode = match self.get(Key::Relay).0 {
            Some(Setting::Relay(mode)) => mode,
            Some(_) | None => Carrying::Auto,
        };
        let rate = match self.get(Key::RelayRate) {
            (Some(Setting::RelayRate(bps)), from) if from != From::Default => Some(bps / 8),
            (Some(_) | None, _) => None,
        };
        CarryWish { mode, rate }
    }

    /// What may be done against routers that map every destination anew.
    pub(crate) fn punch(&self) -> Punch {
        match self.get(Key::Punch).0 {
            Some(Setting::Punch(punch)) => punch,
            Some(_) | None => Punch::default(),
        }
    }

    /// The person who needs no sudo.
    pub(crate) fn operator(&self) -> Option<Uid> {
        let (setting, from) = self.get(Key::Operator);
        if from == From::Default {
            return self.first_operator;
        }
        // Who does not exist (any more) gets no rights.
        let user = User::from_name(&setting?.value()).ok().flatten();
        user.map(|user| user.uid)
    }

    /// What the people of the group `meshnode` may do.
    pub(crate) fn group_rights(&self) -> GroupRights {
        if let (Some(Setting::GroupRights(rights)), _) = self.get(Key::GroupRights) {
            return rights;
        }
        GroupRights::Use
    }

    /// Whether device, sockets and links would be the same under other settings.
    pub(crate) fn same_machine(&self, other: &Self) -> bool {
        let machine = |settings: &Self| {
            let asked = (settings.mdns(), settings.port_mapping());
            (
                settings.listen_port(),
                settings.tun_name(),
                asked,
                settings.proxy(),
            )
        };
        machine(self) == machine(other)
    }
}

/// What a member carries unasked, in bits a second.
const RELAY_RATE: u64 = 1_000_000_000;

/// A person that is set must be one of this machine.
fn check_exists(setting: &Setting) -> Result<(), Failure> {
    let Setting::Operator(name) = setting else {
        return Ok(());
    };
    match User::from_name(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => Err(Failure::usage(format!("this machine has no user {name}"))
            .hint("meshnode set operator=NAME, with the name of an account here")),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut open = OpenOptions::new();
    let mut file = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
