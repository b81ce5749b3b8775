//! `headwater key`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use headwater_chain::ethereum::Key;

use super::{Failure, say};
use crate::{
    config::{Environment, Raw, Setting, read_password},
    secret::Secret,
    store,
};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a new Ethereum key in a keystore
    New {
        /// Where to keep it
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
        /// File with the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Show the id of a node, or the address of a keystore
    Show {
        /// The keystore
        #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
        keystore: Option<PathBuf>,
        /// File with the keystore's password [default: no password]
        #[arg(long, value_name = "FILE", requires = "keystore")]
        password_file: Option<PathBuf>,
        /// The node's data directory [env: HEADWATER_DATA_DIR] [default: ~/.headwater]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
    /// Put an existing private key, in hex, into a keystore
    Import {
        /// File with the private key
        #[arg(value_name = "FILE")]
        private_key_file: PathBuf,
        /// Where to keep it
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
        /// File with the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
}

pub(super) fn run(command: KeyCommand, said: Environment) -> Result<(), Failure> {
    match command {
        KeyCommand::New {
            keystore,
            password_file,
        } => save(&Key::random(), &keystore, &password_file)?,
        KeyCommand::Import {
            private_key_file,
            keystore,
            password_file,
        } => save(&import(&private_key_file)?, &keystore, &password_file)?,
        KeyCommand::Show {
            keystore: Some(keystore),
            password_file,
            ..
        } => show(&keystore, password_file.as_deref())?,
        KeyCommand::Show { data_dir, .. } => {
            let flags = Raw::default().flag(Setting::DataDir, data_dir);
            let data_dir = flags.over(said.raw).at_home(said.home).data_dir()?;
            let node = store::node_id(&data_dir).map_err(anyhow::Error::from)?;
            say(format_args!("node: {node}"))?;
        }
    }
    Ok(())
}

fn show(keystore: &Path, password_file: Option<&Path>) -> anyhow::Result<()> {
    let password = password_file.map(read_password).transpose()?;
    let password = password.unwrap_or_else(|| Secret::from(""));
    let key = Key::load(keystore, password.expose())?;
    say(format_args!("address: {}", key.address()))
}

fn import(private_key_file: &Path) -> anyhow::Result<Key> {
    let name = private_key_file.display();
    let text = std::fs::read_to_string(private_key_file).map(Secret::from);
    let text = text.with_context(|| format!("cannot read {name}"))?;
    Key::from_hex(text.expose()).with_context(|| name.to_string())
}

fn save(key: &Key, keystore: &Path, password_file: &Path) -> anyhow::Result<()> {
    key.save(keystore, read_password(password_file)?.expose())?;
    say(format_args!("address: {}", key.address()))?;
    say(format_args!("keystore: {}", keystore.display()))
}
