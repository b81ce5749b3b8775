//! `headwater key`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use headwater_chain::ethereum::Key;

use super::say;
use crate::{app::read_password, config::Raw, store::Store};

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
        #[arg(long, value_name = "FILE", requires = "password_file")]
        keystore: Option<PathBuf>,
        /// File with the password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// The node's data directory [default: ~/.headwater]
        #[arg(long, value_name = "DIR", env = "HEADWATER_DATA_DIR")]
        data_dir: Option<PathBuf>,
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

pub(super) fn run(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New {
            keystore,
            password_file,
        } => save(&Key::random(), &keystore, &password_file),
        KeyCommand::Import {
            private_key_file,
            keystore,
            password_file,
        } => {
            let name = private_key_file.display();
            let text = std::fs::read_to_string(&private_key_file);
            let text = text.with_context(|| format!("cannot read {name}"))?;
            let key = Key::from_hex(&text).with_context(|| name.to_string())?;
            save(&key, &keystore, &password_file)
        }
        KeyCommand::Show {
            keystore: Some(keystore),
            password_file,
            ..
        } => {
            let password = password_file.as_deref().map(read_password).transpose()?;
            let key = Key::load(&keystore, &password.unwrap_or_default())?;
            say(format_args!("address: {}", key.address()))
        }
        KeyCommand::Show { data_dir, .. } => {
            let raw = Raw {
                data_dir,
                ..Raw::default()
            };
            let store = Store::open(&raw.parse()?.data_dir)?;
            say(format_args!("node: {}", store.node_key()?.node_id()))
        }
    }
}

fn save(key: &Key, keystore: &Path, password_file: &Path) -> anyhow::Result<()> {
    key.save(keystore, &read_password(password_file)?)?;
    say(format_args!("address: {}", key.address()))?;
    say(format_args!("keystore: {}", keystore.display()))
}
