//! `meshnode set`, `get` and `unset`: what holds for this node only.

use super::session::{Session, unexpected};
use crate::config::settings::{Key, Setting};
use crate::control::{Request, Response, SettingReport};
use crate::failure::{Exit, Failure};
use crate::output::table::Table;
use crate::output::{self, json};

/// Set something for this node only, at once and for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode set listen-port=41641
  meshnode set mdns=off tun-name=mesh
  meshnode set relay-rate=20Mbit/s
  sudo meshnode set operator=alice group-rights=look

Only what is named changes. Keys: listen-port, tun-name, mdns, port-mapping, proxy, relay,
relay-rate, punch, operator, group-rights.
A new port, device name, mdns, port-mapping or proxy interrupts the traffic for a moment.")]
pub(crate) struct SetArgs {
    /// What to set
    #[arg(value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
}

/// Print what is set for this node, and where each value comes from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode get
  meshnode get listen-port")]
pub(crate) struct GetArgs {
    /// One key; all when not given
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

/// Forget what was set: the default holds again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode unset listen-port
  meshnode unset mdns tun-name")]
pub(crate) struct UnsetArgs {
    /// Which keys
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

/// Sets.
pub(crate) fn run_set(args: &SetArgs, session: &Session) -> Result<Exit, Failure> {
    let mut changes = Vec::new();
    for typed in &args.changes {
        let Some((key, value)) = typed.split_once('=') else {
            let text = format!("{} has no value", output::clean(typed));
            return Err(Failure::usage(text).hint("meshnode set KEY=VALUE"));
        };
        let setting = Setting::parse(Key::parse(key)?, value)?;
        changes.push((setting.key(), Some(setting.value())));
    }
    change(changes, session)
}

/// Forgets.
pub(crate) fn run_unset(args: &UnsetArgs, session: &Session) -> Result<Exit, Failure> {
    let keys: Result<Vec<Key>, Failure> = args.keys.iter().map(|key| Key::parse(key)).collect();
    change(keys?.into_iter().map(|key| (key, None)).collect(), session)
}

fn change(changes: Vec<(Key, Option<String>)>, session: &Session) -> Result<Exit, Failure> {
    let keys: Vec<Key> = changes.iter().map(|(key, _)| *key).collect();
    let mut settings = ask(&Request::Set(changes), session)?;
    settings.retain(|setting| keys.contains(&setting.key));
    if session.style.json {
        output::data(&json::settings(&settings))?;
    }
    for setting in settings {
        let value = setting.value.unwrap_or_else(|| "not set".to_owned());
        let text = format!("{} is {}.\n", setting.key, output::clean(&value));
        output::talk(session.style, &text);
    }
    Ok(Exit::Done)
}

/// Prints.
pub(crate) fn run_get(args: &GetArgs, session: &Session) -> Result<Exit, Failure> {
    let key = args.key.as_deref().map(Key::parse).transpose()?;
    let mut settings = ask(&Request::Settings, session)?;
    settings.retain(|setting| key.is_none_or(|key| key == setting.key));
    if session.style.json {
        output::data(&json::settings(&settings))?;
        return Ok(Exit::Done);
    }
    if key.is_some() {
        let value = settings.pop().and_then(|setting| setting.value);
        output::data(&format!("{}\n", output::clean(&value.unwrap_or_default())))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    for setting in settings {
        let value = setting.value.unwrap_or_else(|| "-".to_owned());
        let cells = [setting.key.to_string(), value, setting.from];
        table.row(cells.iter().map(|cell| output::clean(cell)).collect());
    }
    output::data(&if session.style.plain {
        table.plain()
    } else {
        table.render(usize::MAX, &[])
    })?;
    Ok(Exit::Done)
}

fn ask(request: &Request, session: &Session) -> Result<Vec<SettingReport>, Failure> {
    let place = session.place()?;
    let response = session.client(&place)?.ask(request)?;
    let Response::Settings(settings) = response else {
        return Err(unexpected());
    };
    Ok(settings)
}
