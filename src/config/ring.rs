//! What the ring's parameters hold: where to look for it, which face clients see, and which keys stay together.
//!
//! A seed is written `host:port`, as a client would reach it; its bus then listens on `port + 10000`, unless `host:port@bus-port`
//! says otherwise, the form that CLUSTER NODES has. Seeds stand in one list, separated by blanks or commas.
//!
//! A pin is a database, written as its number, or a prefix of keys, written as it is; one of nothing but digits cannot be pinned.

use super::settings::{Choice, Settings};

/// How far the port of the bus lies above that of clients when nothing else is said, as in Redis Cluster.
pub const BUS_PORT_OFFSET: u16 = 10000;

/// Where a node of the ring may be found. The host may be a name that stands for many addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// An address or a name, an IPv6 address without brackets.
    pub host: String,
    /// Its port for clients.
    pub port: u16,
    /// Its port for peers.
    pub bus_port: u16,
}

impl Seed {
    fn parse(text: &str) -> Result<Seed, String> {
        let wrong = || format!("a seed is host:port or host:port@bus-port, not {text:?}");
        let (address, bus) = match text.split_once('@') {
            Some((address, bus)) => (address, Some(bus)),
            None => (text, None),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // An IPv6 address without brackets would lose its last group to the port.
        if bare.is_none() && host.contains([':', '[', ']']) {
            return Err(wrong());
        }
        let host = bare.unwrap_or(host);
        if host.is_empty() || host.len() > HOST_MAX || !host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong());
        }
        let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
        let port: u16 = number(port).ok_or_else(wrong)?;
        let bus_port = match bus {
            Some(bus) => number(bus).ok_or_else(wrong)?,
            None => port.checked_add(BUS_PORT_OFFSET).ok_or_else(|| {
                format!("the bus port of {text} would be {port} + {BUS_PORT_OFFSET}: write {text}@bus-port")
            })?,
        };
        Ok(Seed {
            host: host.into(),
            port,
            bus_port,
        })
    }

    fn text(&self) -> String {
        let address = host_port(&self.host, self.port);
        if self.port.checked_add(BUS_PORT_OFFSET) == Some(self.bus_port) {
            address
        } else {
            format!("{address}@{}", self.bus_port)
        }
    }

    /// Where its bus is: `host:port`.
    pub fn bus(&self) -> String {
        host_port(&self.host, self.bus_port)
    }
}

/// `host:port`, as resolvers read it: an IPv6 address gets brackets.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Keys that share a slot whatever their names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// All keys of a database.
    Database(u32),
    /// All keys that begin so.
    Prefix(String),
}

/// What a client sees of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterFace {
    /// One big server.
    #[default]
    Single,
    /// A Redis Cluster.
    Cluster,
}

impl Choice for ClusterFace {
    const VALUES: &'static [Self] = &[Self::Single, Self::Cluster];
    const NAMES: &'static [&'static str] = &["single", "cluster"];
}

/// Which of its names a node tells clients to connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointType {
    /// cluster-announce-ip.
    #[default]
    Ip,
    /// cluster-announce-hostname.
    Hostname,
    /// None: that which the client is connected to.
    UnknownEndpoint,
}

impl Choice for EndpointType {
    const VALUES: &'static [Self] = &[Self::Ip, Self::Hostname, Self::UnknownEndpoint];
    const NAMES: &'static [&'static str] = &["ip", "hostname", "unknown-endpoint"];
}

/// The words of a list in which commas separate as well.
fn split<'a>(words: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let all: Vec<&str> = words.iter().flat_map(|word| word.split(',')).collect();
    all.into_iter().filter(|word| !word.is_empty())
}

pub(super) fn seeds(settings: &Settings) -> String {
    let texts: Vec<String> = settings.cluster_seeds.iter().map(Seed::text).collect();
    texts.join(" ")
}

pub(super) fn set_seeds(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let seeds: Vec<Seed> = split(words).map(Seed::parse).collect::<Result<_, _>>()?;
    // Each is asked at the start, and votes: a list beyond any voters is a mistake.
    if seeds.len() > SEEDS_MAX {
        return Err(format!("there are more than {SEEDS_MAX} seeds"));
    }
    settings.cluster_seeds = seeds;
    Ok(())
}

pub(super) fn pins(settings: &Settings) -> String {
    let text = |pin: &Pin| match pin {
        Pin::Database(database) => database.to_string(),
        Pin::Prefix(prefix) => prefix.clone(),
    };
    let texts: Vec<String> = settings.cluster_pin.iter().map(text).collect();
    texts.join(" ")
}

pub(super) fn set_pins(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let mut pins = Vec::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let pin = if word.bytes().all(|byte| byte.is_ascii_digit()) {
            Pin::Database(
                word.parse()
                    .map_err(|_| format!("{word} is no number of a database"))?,
            )
        } else if word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("a prefix that is pinned has no blanks".into());
        } else {
            Pin::Prefix((*word).into())
        };
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }
    // Every key is compared with every prefix.
    if pins.len() > PINS_MAX {
        return Err(format!("there are more than {PINS_MAX} pins"));
    }
    settings.cluster_pin = pins;
    Ok(())
}

/// The name of a ring: what a handshake compares, so it is short and prints.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(format!(
            "the name of a ring has 1 to {NAME_MAX} characters, without blanks"
        ));
    }
    Ok(text.into())
}

/// An address that is announced: it stands between blanks and commas in CLUSTER NODES.
pub(super) fn announced(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b",@[]".contains(&byte);
    if text.len() > HOST_MAX || !text.bytes().all(plain) {
        return Err("argument must be an address or a host name, without port and brackets".into());
    }
    Ok(text.into())
}

/// A file within `dir`.
pub(super) fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') {
        return Err("argument must be the name of a file within dir".into());
    }
    Ok(text.into())
}

/// A name that is announced beside the address, refused in the words of redis-server.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    if text.len() > HOST_MAX {
        return Err("Hostnames must be less than 256 characters".into());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !text.bytes().all(plain) {
        return Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into());
    }
    Ok(text.into())
}

impl Settings {
    /// The port of the bus.
    pub fn bus_port(&self) -> u16 {
        match self.cluster_bus_port {
            // `check` has seen that it fits.
            0 => self.port.saturating_add(BUS_PORT_OFFSET),
            port => port,
        }
    }

    /// The port that clients of a Redis Cluster are told.
    pub fn announced_port(&self) -> u16 {
        let ports = [self.cluster_announce_port, self.cluster_port];
        let known = ports.into_iter().find(|port| *port != 0);
        known.unwrap_or(self.port)
    }

    /// The port that peers are told.
    pub fn announced_bus_port(&self) -> u16 {
        match self.cluster_announce_bus_port {
            0 => self.bus_port(),
            port => port,
        }
    }

    /// What the ring's parameters must be together.
    pub(super) fn check_ring(&self) -> Result<(), (&'static str, String)> {
        if !self.cluster_enabled {
            return Ok(());
        }
        if self.port == 0 {
            return Err((
                "port",
                "a node of a ring has a port: others tell their clients of it".into(),
            ));
        }
        if self.cluster_bus_port == 0 && self.port > u16::MAX - BUS_PORT_OFFSET {
            return Err((
                "cluster-bus-port",
                format!(
                    "the bus would listen on port {} + {BUS_PORT_OFFSET}: name another one",
                    self.port
                ),
            ));
        }
        if self.cluster_port == self.port {
            return Err((
                "cluster-port",
                "the two faces cannot share a port: cluster-face says what port shows".into(),
            ));
        }
        if [self.port, self.cluster_port].contains(&self.bus_port()) {
            return Err((
                "cluster-bus-port",
                "peers and clients cannot share a port".into(),
            ));
        }
        if self.cluster_preferred_endpoint_type == EndpointType::Hostname
            && self.cluster_announce_hostname.is_empty()
        {
            // redis-server sends its clients to "?" then, where nobody is.
            return Err((
                "cluster-preferred-endpoint-type",
                "hostname is preferred, but cluster-announce-hostname is empty".into(),
            ));
        }
        let beyond = self.cluster_pin.iter().find_map(|pin| match pin {
            Pin::Database(database) if *database >= self.databases => Some(*database),
            _ => None,
        });
        match beyond {
            Some(database) => Err((
                "cluster-pin",
                format!(
                    "there is no database {database}: databases is {}",
                    self.databases
                ),
            )),
            None => Ok(()),
        }
    }
}

const HOST_MAX: usize = 255;
const NAME_MAX: usize = 64;
const SEEDS_MAX: usize = 1024;
const PINS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::parameters::Row;
    use super::super::testing::MACHINE;
    use super::*;

    fn set(settings: &mut Settings, name: &str, value: &str) -> Result<String, String> {
        let (row, _) = Row::find(name).expect("the parameter exists");
        row.set_text(settings, value).map(|()| row.value(settings))
    }

    #[test]
    fn seeds_as_they_are_written_and_shown() {
        for (written, shown, buses) in [
            ("", "", vec![]),
            ("a:7001", "a:7001", vec!["a:17001"]),
            (
                "a:7001,b.c:7002, d:1",
                "a:7001 b.c:7002 d:1",
                vec!["a:17001", "b.c:17002", "d:10001"],
            ),
            ("[::1]:7001", "[::1]:7001", vec!["[::1]:17001"]),
            (
                "a:7001@99 b:2@10002",
                "a:7001@99 b:2",
                vec!["a:99", "b:10002"],
            ),
            ("a:60000@5", "a:60000@5", vec!["a:5"]),
        ] {
            let mut settings = Settings::new(MACHINE);
            assert_eq!(
                set(&mut settings, "cluster-seeds", written),
                Ok(shown.into())
            );
            let found: Vec<String> = settings.cluster_seeds.iter().map(Seed::bus).collect();
            assert_eq!(found, buses);
        }
        for wrong in [
            "a", ":1", "a:", "a:x", "a:0", "::1:7001", "a:70000", "a:1@", "a:1@0", "[::1:7", "é:1",
            "a:60000",
        ] {
            let mut settings = Settings::new(MACHINE);
            let refusal = set(&mut settings, "cluster-seeds", wrong);
            assert!(refusal.is_err_and(|why| why.contains(wrong)), "{wrong}");
            assert!(settings.cluster_seeds.is_empty());
        }
    }

    #[test]
    fn pins_are_numbers_of_databases_or_prefixes() {
        let mut settings = Settings::new(MACHINE);
        let shown = set(&mut settings, "cluster-pin", "1 queue: 0x 1 a,b");
        assert_eq!(shown, Ok("1 queue: 0x a,b".into()));
        let prefix = |text: &str| Pin::Prefix(text.into());
        assert_eq!(
            settings.cluster_pin,
            [
                Pin::Database(1),
                prefix("queue:"),
                prefix("0x"),
                prefix("a,b")
            ]
        );
        assert!(set(&mut settings, "cluster-pin", "99999999999").is_err());
        let many: Vec<String> = (0..=PINS_MAX).map(|n| n.to_string()).collect();
        assert!(set(&mut settings, "cluster-pin", &many.join(" ")).is_err());
    }

    #[test]
    fn names_and_addresses() {
        // Aim: the refusals of host names are those of redis-server 7.0.15.
        let mut settings = Settings::new(MACHINE);
        let long = "a".repeat(256);
        for (name, value, expected) in [
            (
                "cluster-announce-hostname",
                "a_b",
                Err("Hostnames may only contain alphanumeric characters, hyphens or dots"),
            ),
            (
                "cluster-announce-hostname",
                &long,
                Err("Hostnames must be less than 256 characters"),
            ),
            ("cluster-announce-hostname", "a-1.b", Ok("a-1.b")),
            ("cluster-announce-ip", "::1", Ok("::1")),
            (
                "cluster-announce-ip",
                "a b",
                Err("argument must be an address or a host name, without port and brackets"),
            ),
            (
                "cluster-announce-bus-ip",
                "[::1]",
                Err("argument must be an address or a host name, without port and brackets"),
            ),
            ("cluster-name", "blue", Ok("blue")),
            (
                "cluster-name",
                "",
                Err("the name of a ring has 1 to 64 characters, without blanks"),
            ),
            (
                "cluster-weight",
                "0",
                Err("argument must be between 1 and 10000 inclusive"),
            ),
            (
                "cluster-node-timeout",
                "99",
                Err("argument must be between 100 and 2147483647 inclusive"),
            ),
            (
                "cluster-face",
                "both",
                Err("argument(s) must be one of the following: single, cluster"),
            ),
        ] {
            let shown = set(&mut settings, name, value);
            assert_eq!(
                shown,
                expected.map(String::from).map_err(String::from),
                "{name}"
            );
        }
    }

    #[test]
    fn the_secret_is_not_told_but_written() {
        // Aim: a client that may read CONFIG cannot become a peer; a rewritten file still has the secret.
        let mut settings = Settings::new(MACHINE);
        assert_eq!(
            set(&mut settings, "cluster-secret", "hunter 2"),
            Ok("***".into())
        );
        let (row, _) = Row::find("cluster-secret").expect("it exists");
        assert!(row.sensitive());
        assert_eq!(row.lines(&settings), ["\"hunter 2\""]);
        assert!(!format!("{settings:?}").contains("hunter"));
        assert_eq!(set(&mut settings, "cluster-secret", ""), Ok("".into()));
        assert_eq!(settings.cluster_secret, None);
    }

    #[test]
    fn what_does_not_fit_together() {
        // Aim: the start names the parameter; without cluster-enabled none of this matters.
        for (pairs, expected) in [
            (&[("port", "7001")][..], None),
            (&[("port", "0")], Some("port")),
            (&[("port", "60000")], Some("cluster-bus-port")),
            (&[("port", "60000"), ("cluster-bus-port", "7")], None),
            (&[("cluster-bus-port", "6379")], Some("cluster-bus-port")),
            (&[("cluster-port", "6379")], Some("cluster-port")),
            (&[("cluster-port", "16379")], Some("cluster-bus-port")),
            (&[("cluster-port", "7")], None),
            (&[("cluster-pin", "a: 15")], None),
            (&[("cluster-pin", "a: 16")], Some("cluster-pin")),
            (
                &[("cluster-preferred-endpoint-type", "hostname")],
                Some("cluster-preferred-endpoint-type"),
            ),
            (
                &[
                    ("cluster-announce-hostname", "a"),
                    ("cluster-preferred-endpoint-type", "hostname"),
                ],
                None,
            ),
        ] {
            let mut settings = Settings::new(MACHINE);
            for (name, value) in pairs {
                set(&mut settings, name, value).expect("the value is good");
            }
            assert_eq!(settings.check_ring(), Ok(()), "{pairs:?}");
            set(&mut settings, "cluster-enabled", "yes").expect("the value is good");
            let refused = settings.check_ring().err().map(|(name, _)| name);
            assert_eq!(refused, expected, "{pairs:?}");
        }
        let mut settings = Settings::new(MACHINE);
        assert_eq!(settings.bus_port(), 16379);
        settings.cluster_bus_port = 7;
        assert_eq!(settings.bus_port(), 7);
        assert_eq!(
            (settings.announced_port(), settings.announced_bus_port()),
            (6379, 7)
        );
        settings.cluster_port = 8;
        settings.cluster_announce_bus_port = 9;
        assert_eq!(
            (settings.announced_port(), settings.announced_bus_port()),
            (8, 9)
        );
        settings.cluster_announce_port = 10;
        assert_eq!(settings.announced_port(), 10);
    }
}
