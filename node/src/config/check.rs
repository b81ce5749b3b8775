//! From what was said to what is done: every value is looked at, and everything that is
//! wrong is told at once.

use std::{fmt::Display, path::PathBuf};

use headwater_chain::{
    Address, Wei,
    ethereum::{ClaimConfig, EndpointUrl, Key},
};
use headwater_media::PackagerConfig;
use headwater_proto::Roles;

use super::{
    AccountConfig, ChainConfig, Config, JobCreation, LedgerConfig, PublishKey,
    environment::PRIVATE_KEY,
    error::{ConfigErrors, Problem},
    raw::{Raw, Source, Value, without_secret},
    setting::Setting,
    value::{self, LedgerUrl},
};
use crate::{
    net::{Purpose, check_address},
    secret::Secret,
    telemetry::Logging,
};

impl Raw {
    /// Looks at every value. Files that are named are looked for.
    ///
    /// # Errors
    /// Names every value that is refused, where it was said, and what is accepted.
    pub fn parse(self) -> Result<Config, ConfigErrors> {
        let mut check = Check::of(self);
        let config = check.config();
        ConfigErrors::none_of(check.problems)?;
        Ok(config.expect("a value is missing only after a problem"))
    }

    /// How this process logs.
    ///
    /// # Errors
    /// Names what is refused.
    pub fn logging(self) -> Result<Logging, ConfigErrors> {
        self.only(Check::logging)
    }

    /// The ledger that a command is about.
    ///
    /// # Errors
    /// When none was named, or not as it should be.
    pub fn ledger(self) -> Result<LedgerConfig, ConfigErrors> {
        self.only(|check| match check.ledger() {
            Some(None) => check.missing(
                Setting::Ledger,
                "a ledger is needed, such as --ledger file:PATH or --ledger wss://…",
            ),
            Some(ledger) => ledger,
            None => None,
        })
    }

    /// The chain that a command is about, which may have no contract yet.
    ///
    /// # Errors
    /// When none was named, or not as it should be.
    pub fn chain(self) -> Result<ChainConfig, ConfigErrors> {
        self.only(|check| {
            let endpoints = check.ledger_urls()?.1;
            let no_contract = Address([0; 20]);
            match check.chain(endpoints, Some(no_contract))? {
                Some(chain) => Some(chain),
                None => check.missing(
                    Setting::Ledger,
                    "this needs a chain: --ledger ws(s)://… or http(s)://…",
                ),
            }
        })
    }

    /// Whose account a command uses.
    ///
    /// # Errors
    /// When the keystore, its password, or the key in the environment cannot be used.
    pub fn account(self) -> Result<AccountConfig, ConfigErrors> {
        self.only(Check::account)
    }

    /// The data directory that a command is about.
    ///
    /// # Errors
    /// When none was named and there is no home directory.
    pub fn data_dir(self) -> Result<PathBuf, ConfigErrors> {
        self.only(Check::data_dir)
    }

    /// The admin address of the running node that a command asks, `HOST:PORT`.
    ///
    /// # Errors
    /// When it has no port.
    pub fn admin(self) -> Result<String, ConfigErrors> {
        self.only(|check| check.set(Setting::Admin, value::host_port))
    }

    /// Looks at some values only.
    fn only<T>(self, look: impl FnOnce(&mut Check) -> Option<T>) -> Result<T, ConfigErrors> {
        let mut check = Check::of(self);
        let looked = look(&mut check);
        ConfigErrors::none_of(check.problems)?;
        Ok(looked.expect("a value is missing only after a problem"))
    }
}

/// Values, and what was found to be wrong with them.
struct Check {
    raw: Raw,
    problems: Vec<Problem>,
}

impl Check {
    fn of(raw: Raw) -> Self {
        let mut raw = raw.over(Raw::defaults());
        let problems = std::mem::take(&mut raw.problems);
        Self { raw, problems }
    }

    /// `None` after a problem. Everything is looked at before anything is given up.
    fn config(&mut self) -> Option<Config> {
        let broadcaster = self.set(Setting::Broadcaster, value::switch);
        let relayer = self.set(Setting::Relayer, value::switch);
        let transcoder = self.set(Setting::Transcoder, value::switch);
        let data_dir = self.data_dir();
        let listen = self.addresses(Setting::Listen, Purpose::Listen);
        let bootstrap = self.addresses(Setting::Bootstrap, Purpose::Bootstrap);
        let external = self.addresses(Setting::ExternalAddr, Purpose::External);
        let allow_private_dials = self.set(Setting::AllowPrivateDials, value::switch);
        let max_peers = self.set(Setting::MaxPeers, value::max_peers);
        let http = self.set(Setting::Http, value::address);
        let admin = self.set(Setting::Admin, value::address);
        let rtmp = self.set(Setting::Rtmp, value::address);
        let publish_keys = self.publish_keys();
        let ledger = self.ledger();
        if transcoder == Some(true) && matches!(ledger, Some(None)) {
            let reason = "a transcoder needs a ledger to get jobs from; add --ledger file:PATH";
            self.refuse_given(Setting::Transcoder, reason);
        }
        let jobs = self.jobs(ledger.as_ref().and_then(Option::as_ref));
        let reassign_after = self.set(Setting::ReassignAfter, |text| {
            value::duration(text, 5000, 3_600_000)
        });
        let max_unpaid = self.set(Setting::MaxUnpaid, value::max_unpaid);
        let claim_receipts = self.set(Setting::ClaimReceipts, value::claim_receipts);
        let claim_blocks = self.set(Setting::ClaimBlocks, value::claim_blocks);
        let account = self.account();
        let ladder = self.set(Setting::Ladder, value::ladder);
        let packager = self.packager();
        let window = |text: &str| value::duration(text, 0, 3_600_000);
        let reconnect_window = self.set(Setting::ReconnectWindow, window);
        let logging = self.logging();
        let data_dir = data_dir?;
        Some(Config {
            roles: Roles {
                broadcaster: broadcaster?,
                relayer: relayer?,
                transcoder: transcoder?,
            },
            listen: listen?,
            bootstrap: bootstrap?,
            external: external?,
            allow_private_dials: allow_private_dials?,
            max_peers: max_peers?,
            http: http?,
            admin: admin?,
            rtmp: rtmp?,
            publish_keys: publish_keys?,
            ledger: ledger?,
            jobs: jobs?,
            reassign_after: reassign_after?,
            max_unpaid: max_unpaid?,
            claims: ClaimConfig {
                receipts: claim_receipts?,
                blocks: claim_blocks?,
            },
            account: account?,
            ladder: ladder?,
            packager: packager?,
            reconnect_window: reconnect_window?,
            logging: logging?,
            record: None,
            data_dir,
        })
    }

    /// Job books and endpoints that were named.
    fn ledger_urls(&mut self) -> Option<(Vec<PathBuf>, Vec<EndpointUrl>)> {
        let (mut books, mut endpoints) = (Vec::new(), Vec::new());
        let before = self.problems.len();
        for text in self.many(Setting::Ledger) {
            match value::ledger(&text) {
                Ok(LedgerUrl::Book(path)) => books.push(path),
                Ok(LedgerUrl::Endpoint(url)) => endpoints.push(url),
                Err(reason) => self.refuse(Setting::Ledger, &value::shown_ledger(&text), reason),
            }
        }
        (self.problems.len() == before).then_some((books, endpoints))
    }

    /// `Some(None)` when none was named.
    fn ledger(&mut self) -> Option<Option<LedgerConfig>> {
        let (mut books, endpoints) = self.ledger_urls()?;
        match (books.pop(), endpoints.is_empty()) {
            (None, _) => Some(self.chain(endpoints, None)?.map(LedgerConfig::Chain)),
            (Some(book), true) if books.is_empty() => Some(Some(LedgerConfig::Book(book))),
            (Some(_), _) => self.missing(
                Setting::Ledger,
                "a node has one job book, or one chain with several ways to it",
            ),
        }
    }

    /// `Some(None)` without endpoints. Without a default the contract must be said.
    fn chain(
        &mut self,
        endpoints: Vec<EndpointUrl>,
        default: Option<Address>,
    ) -> Option<Option<ChainConfig>> {
        let contract = self.text(Setting::Contract, str::parse);
        let confirmations = self.set(Setting::Confirmations, value::confirmations);
        let max_fee = self.set(Setting::MaxFee, value::wei);
        if endpoints.is_empty() {
            return Some(None);
        }
        let contract = match contract?.or(default) {
            Some(contract) => contract,
            None => self.missing(
                Setting::Contract,
                "a chain's ledger is a contract; say its address, 0x…",
            )?,
        };
        Some(Some(ChainConfig {
            endpoints,
            contract,
            confirmations: confirmations?,
            max_fee: max_fee?,
        }))
    }

    /// Jobs that are created without being asked for cost nothing in a job book, and money
    /// on a chain.
    fn jobs(&mut self, ledger: Option<&LedgerConfig>) -> Option<JobCreation> {
        let on_chain = matches!(ledger, Some(LedgerConfig::Chain(_)));
        let create = self.text(Setting::CreateJobs, value::switch);
        let max_price = self.text(Setting::MaxPrice, value::wei);
        let spend_limit = self.set(Setting::SpendLimit, value::wei);
        let create = create?.unwrap_or(!on_chain);
        let max_price = max_price?;
        if on_chain && create && max_price.is_none() {
            let reason = "jobs that are created on a chain cost money; say how much a segment \
                          may cost with --max-price";
            self.refuse_given(Setting::CreateJobs, reason);
            return None;
        }
        Some(JobCreation {
            create,
            max_price: max_price.unwrap_or(Wei(u128::MAX)),
            spend_limit: spend_limit?,
        })
    }

    fn account(&mut self) -> Option<AccountConfig> {
        let keystore = self.text(Setting::Keystore, value::keystore);
        let password_file = self.text(Setting::PasswordFile, value::password_file);
        let private_key = self.raw.private_key.clone();
        if let Some(Err(error)) = private_key.as_ref().map(|key| Key::from_hex(key.expose())) {
            self.problems.push(Problem::new(PRIVATE_KEY, error));
            return None;
        }
        Some(AccountConfig {
            keystore: keystore?,
            password_file: password_file?,
            private_key,
        })
    }

    fn data_dir(&mut self) -> Option<PathBuf> {
        match self.text(Setting::DataDir, value::path)? {
            Some(path) => Some(path),
            None => self.missing(
                Setting::DataDir,
                "there is no home directory (HOME); say where with --data-dir",
            ),
        }
    }

    fn packager(&mut self) -> Option<PackagerConfig> {
        let segment = self.set(Setting::Segment, |text| value::duration(text, 500, 10_000));
        let part = self.set(Setting::Part, |text| value::duration(text, 50, 2000));
        let (segment, part) = (segment?, part?);
        if part > segment {
            self.refuse_given(Setting::Part, "a part is no longer than a segment");
            return None;
        }
        Some(PackagerConfig { part, segment })
    }

    fn logging(&mut self) -> Option<Logging> {
        let filter = self.set(Setting::Log, str::parse);
        let format = self.set(Setting::LogFormat, str::parse);
        Some(Logging {
            filter: filter?,
            format: format?,
        })
    }

    fn addresses(&mut self, key: Setting, purpose: Purpose) -> Option<Vec<String>> {
        let texts = self.many(key);
        let before = self.problems.len();
        for text in &texts {
            if let Err(reason) = check_address(text, purpose) {
                self.refuse(key, text, reason);
            }
        }
        (self.problems.len() == before).then_some(texts)
    }

    /// The values of a list.
    fn many(&self, key: Setting) -> Vec<String> {
        match self.raw.given(key).map(|given| &given.value) {
            Some(Value::Many(texts)) => texts.clone(),
            Some(Value::One(_) | Value::Hidden(_)) | None => Vec::new(),
        }
    }

    fn publish_keys(&mut self) -> Option<Vec<PublishKey>> {
        let texts: Vec<Secret> = match self
            .raw
            .given(Setting::PublishKey)
            .map(|given| &given.value)
        {
            Some(Value::Hidden(secrets)) => secrets.clone(),
            Some(Value::One(_) | Value::Many(_)) | None => Vec::new(),
        };
        let before = self.problems.len();
        let mut keys: Vec<PublishKey> = Vec::new();
        for text in &texts {
            let shown = without_secret(text);
            match value::publish_key(text) {
                Ok(key) if keys.iter().any(|k| k.name == key.name || k.key == key.key) => {
                    let reason = "each name has one key, and each key one name";
                    self.refuse(Setting::PublishKey, &shown, reason);
                }
                Ok(key) => keys.push(key),
                Err(reason) => self.refuse(Setting::PublishKey, &shown, reason),
            }
        }
        (self.problems.len() == before).then_some(keys)
    }

    /// A value that has a default.
    fn set<T, E: Display>(
        &mut self,
        key: Setting,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.text(key, read)?
    }

    /// A value, if there is one. `None` after a problem.
    fn text<T, E: Display>(
        &mut self,
        key: Setting,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        let text = match self.raw.given(key).map(|given| &given.value) {
            Some(Value::One(text)) => text.clone(),
            Some(Value::Many(_) | Value::Hidden(_)) | None => return Some(None),
        };
        match read(&text) {
            Ok(value) => Some(Some(value)),
            Err(reason) => {
                self.refuse(key, &text, reason);
                None
            }
        }
    }

    fn refuse(&mut self, key: Setting, shown: &str, reason: impl Display) {
        let source = self.raw.given(key).map(|given| given.source.clone());
        let place = source.unwrap_or(Source::Default).place(key, shown);
        self.problems.push(Problem::new(place, reason));
    }

    /// Refuses a text for how it goes with others.
    fn refuse_given(&mut self, key: Setting, reason: &str) {
        if let Some(Value::One(text)) = self.raw.given(key).map(|given| given.value.clone()) {
            self.refuse(key, &text, reason);
        }
    }

    fn missing<T>(&mut self, key: Setting, reason: &str) -> Option<T> {
        self.problems.push(Problem::new(key.flag(), reason));
        None
    }
}
