//! What a request comes by: programs with their headers, and networks.

use super::rng::Rng;

/// A program that sends requests.
pub struct ClientProfile {
    /// Its headers, as the edge sees them.
    pub headers: Vec<(String, String)>,
    /// Its TLS client hello, hashed.
    pub tls_fingerprint: String,
    /// Whether it speaks Anthropic's dialect.
    pub is_anthropic: bool,
    /// Whether people wait for what it shows, word by word.
    pub is_streaming: bool,
}

/// All programs there are, by number.
pub struct ClientProfiles(Vec<ClientProfile>);

/// A row of the table of programs: user agent, language of an official SDK, Anthropic, streaming.
type ProfileRow = (&'static str, Option<&'static str>, bool, bool);

/// Official SDKs.
const SDKS: &[ProfileRow] = &[
    ("OpenAI/Python 2.8.0", Some("python"), false, false),
    ("OpenAI/Python 1.109.1", Some("python"), false, false),
    ("AsyncOpenAI/Python 2.6.1", Some("python"), false, false),
    ("OpenAI/JS 6.9.1", Some("js"), false, false),
    ("Anthropic/Python 0.75.0", Some("python"), true, false),
    ("AsyncAnthropic/Python 0.72.0", Some("python"), true, false),
    ("Anthropic/JS 0.70.1", Some("js"), true, false),
];

/// Apps and extensions that people use.
const APPS: &[ProfileRow] = &[
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/142.0 Safari/537.36",
        None,
        false,
        true,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
        None,
        true,
        true,
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", None, false, true),
    ("open-webui/0.6.34", None, false, true),
    ("LibreChat/0.8.1", None, true, true),
    ("pageside/3.2 (extension)", None, false, true),
    ("margin-notes/1.9 (iOS)", None, true, true),
    ("tidewater-editor/0.31", None, true, true),
];

/// Libraries and tools of programmers.
const LIBRARIES: &[ProfileRow] = &[
    ("python-requests/2.32.5", None, false, false),
    ("Python/3.12 aiohttp/3.13.2", None, false, false),
    ("python-httpx/0.28.1", None, false, false),
    ("Go-http-client/2.0", None, false, false),
    ("okhttp/5.3.0", None, true, false),
    ("axios/1.13.2", None, false, false),
    ("langchain/1.0.7", None, false, false),
    ("litellm/1.80.0", None, false, false),
];

/// A gateway that strips what it passes on; and a client that says nothing of itself.
const ANONYMOUS_CLIENTS: &[ProfileRow] =
    &[("portico-gateway/2", None, false, false), ("", None, false, true)];

impl ClientProfiles {
    pub fn new() -> Self {
        let rows = [SDKS, APPS, LIBRARIES, ANONYMOUS_CLIENTS].concat();
        Self(rows.into_iter().enumerate().map(|(index, row)| client_profile(index, row)).collect())
    }

    /// A program, by its number.
    pub fn get(&self, index: usize) -> Option<&ClientProfile> {
        self.0.get(index)
    }

    /// Any of the SDKs.
    pub fn pick_sdk(rng: &mut Rng) -> usize {
        rng.below(SDKS.len())
    }

    /// Any of Anthropic's SDKs.
    pub fn pick_anthropic_sdk(rng: &mut Rng) -> usize {
        let first = SDKS.iter().take_while(|(.., is_anthropic, _)| !is_anthropic).count();
        first + rng.below(SDKS.len() - first)
    }

    /// Any app.
    pub fn pick_app(rng: &mut Rng) -> usize {
        SDKS.len() + rng.below(APPS.len())
    }

    /// Anything that is written by programmers.
    pub fn pick_script(rng: &mut Rng) -> usize {
        match rng.chance(0.6) {
            true => Self::pick_sdk(rng),
            false => SDKS.len() + APPS.len() + rng.below(LIBRARIES.len()),
        }
    }

    /// Anything.
    pub fn pick_any(rng: &mut Rng) -> usize {
        rng.below(SDKS.len() + APPS.len() + LIBRARIES.len())
    }

    /// A gateway.
    pub fn gateway() -> usize {
        SDKS.len() + APPS.len() + LIBRARIES.len()
    }

    /// What says nothing of itself.
    pub fn stripped() -> usize {
        Self::gateway() + 1
    }
}

fn client_profile(
    index: usize,
    (agent, sdk, is_anthropic, is_streaming): ProfileRow,
) -> ClientProfile {
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("accept".to_owned(), "application/json".to_owned()),
    ];
    if !agent.is_empty() {
        headers.push(("user-agent".to_owned(), agent.to_owned()));
        headers.push(("accept-encoding".to_owned(), "gzip, deflate, br".to_owned()));
    }
    if let Some(language) = sdk {
        let version = agent.rsplit([' ', '/']).next().unwrap_or_default();
        let rows = [
            ("lang", language),
            ("package-version", version),
            ("os", "Linux"),
            ("retry-count", "0"),
        ];
        headers.extend(rows.map(|(name, value)| (format!("x-stainless-{name}"), value.to_owned())));
    }
    if is_anthropic {
        headers.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
    }
    let mut fingerprint_rng = Rng::new(0x7e1e, index as u64);
    let tls_fingerprint =
        format!("{:016x}{:016x}", fingerprint_rng.next_u64(), fingerprint_rng.next_u64());
    ClientProfile { headers, tls_fingerprint, is_anthropic, is_streaming }
}

/// A place in the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Address {
    /// The number of its network, which makes its autonomous system.
    pub network: u16,
    /// Of its host there.
    pub host: u16,
}

impl Address {
    /// At home, by any of the providers.
    pub fn home(rng: &mut Rng) -> Self {
        Self { network: rng.below(HOME_NETWORKS) as u16, host: rng.next_u64() as u16 }
    }

    /// In a data centre.
    pub fn cloud(rng: &mut Rng) -> Self {
        Self {
            network: (HOME_NETWORKS + rng.below(CLOUD_NETWORKS)) as u16,
            host: rng.next_u64() as u16,
        }
    }

    /// In a network of proxies, by its number.
    pub fn proxy(index: usize, rng: &mut Rng) -> Self {
        Self {
            network: (HOME_NETWORKS + CLOUD_NETWORKS + index % PROXY_NETWORKS) as u16,
            host: rng.below(HOSTS_PER_PROXY_NETWORK) as u16,
        }
    }

    /// The autonomous system: one of those that nobody is given.
    pub fn as_number(self) -> u32 {
        4_200_000_000 + u32::from(self.network)
    }

    /// Writes the address.
    pub fn write_to(self, out: &mut String) {
        let [high, low] = (self.network + 0x2000).to_be_bytes();
        let [left, right] = self.host.to_be_bytes();
        let _ = std::fmt::Write::write_fmt(out, format_args!("{high}.{low}.{left}.{right}"));
    }

    /// The country.
    pub fn country(self) -> &'static str {
        COUNTRIES.get(usize::from(self.network) % COUNTRIES.len()).copied().unwrap_or_default()
    }
}

/// Providers of homes, data centres, networks of proxies, and hosts of one of those.
const HOME_NETWORKS: usize = 600;
const CLOUD_NETWORKS: usize = 40;
const PROXY_NETWORKS: usize = 4_000;
const HOSTS_PER_PROXY_NETWORK: usize = 2_000;

const COUNTRIES: [&str; 16] = [
    "US", "US", "US", "DE", "GB", "FR", "BR", "IN", "JP", "KR", "CA", "AU", "ES", "SG", "NL", "MX",
];
