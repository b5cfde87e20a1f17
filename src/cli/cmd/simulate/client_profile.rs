//! The clients that send simulated requests, with their headers and IP addresses.

use super::rng::Rng;

/// A client: an app, an SDK, a library or a gateway.
pub struct ClientProfile {
    /// Headers that the edge receives.
    pub headers: Vec<(String, String)>,
    /// Hash of the TLS client hello.
    pub tls_fingerprint: String,
    /// Whether the client uses Anthropic's API; otherwise it uses OpenAI's API.
    pub is_anthropic: bool,
    /// Whether the client requests streamed answers. Apps do, because their users read while the
    /// model writes.
    pub is_streaming: bool,
}

/// All clients. Their indices are fixed.
pub struct ClientProfiles(Vec<ClientProfile>);

/// A row of the tables of clients below.
#[derive(Clone, Copy)]
struct ProfileRow {
    user_agent: &'static str,
    /// Language of an official SDK, which adds `x-stainless-*` headers; `None` for other clients.
    sdk_language: Option<&'static str>,
    is_anthropic: bool,
    is_streaming: bool,
}

impl ProfileRow {
    const fn openai(user_agent: &'static str) -> Self {
        Self { user_agent, sdk_language: None, is_anthropic: false, is_streaming: false }
    }

    const fn anthropic(user_agent: &'static str) -> Self {
        Self { is_anthropic: true, ..Self::openai(user_agent) }
    }

    const fn sdk(self, language: &'static str) -> Self {
        Self { sdk_language: Some(language), ..self }
    }

    const fn streaming(self) -> Self {
        Self { is_streaming: true, ..self }
    }
}

/// Official SDKs.
const SDKS: &[ProfileRow] = &[
    ProfileRow::openai("OpenAI/Python 2.8.0").sdk("python"),
    ProfileRow::openai("OpenAI/Python 1.109.1").sdk("python"),
    ProfileRow::openai("AsyncOpenAI/Python 2.6.1").sdk("python"),
    ProfileRow::openai("OpenAI/JS 6.9.1").sdk("js"),
    ProfileRow::anthropic("Anthropic/Python 0.75.0").sdk("python"),
    ProfileRow::anthropic("AsyncAnthropic/Python 0.72.0").sdk("python"),
    ProfileRow::anthropic("Anthropic/JS 0.70.1").sdk("js"),
];

/// Apps and extensions.
const APPS: &[ProfileRow] = &[
    ProfileRow::openai(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/142.0 \
         Safari/537.36",
    )
    .streaming(),
    ProfileRow::anthropic(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
    )
    .streaming(),
    ProfileRow::openai("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0")
        .streaming(),
    ProfileRow::openai("open-webui/0.6.34").streaming(),
    ProfileRow::anthropic("LibreChat/0.8.1").streaming(),
    ProfileRow::openai("pageside/3.2 (extension)").streaming(),
    ProfileRow::anthropic("margin-notes/1.9 (iOS)").streaming(),
    ProfileRow::anthropic("tidewater-editor/0.31").streaming(),
];

/// HTTP libraries and LLM frameworks.
const LIBRARIES: &[ProfileRow] = &[
    ProfileRow::openai("python-requests/2.32.5"),
    ProfileRow::openai("Python/3.12 aiohttp/3.13.2"),
    ProfileRow::openai("python-httpx/0.28.1"),
    ProfileRow::openai("Go-http-client/2.0"),
    ProfileRow::anthropic("okhttp/5.3.0"),
    ProfileRow::openai("axios/1.13.2"),
    ProfileRow::openai("langchain/1.0.7"),
    ProfileRow::openai("litellm/1.80.0"),
];

/// A gateway that replaces the headers of its clients by its own, and a client without a user
/// agent.
const ANONYMOUS_CLIENTS: &[ProfileRow] =
    &[ProfileRow::openai("portico-gateway/2"), ProfileRow::openai("").streaming()];

impl ClientProfiles {
    pub fn new() -> Self {
        let rows = [SDKS, APPS, LIBRARIES, ANONYMOUS_CLIENTS].concat();
        Self(rows.into_iter().enumerate().map(|(index, row)| client_profile(index, row)).collect())
    }

    /// Returns the client with an index, which one of the functions below has returned; `None` for
    /// a higher index.
    pub fn get(&self, index: usize) -> Option<&ClientProfile> {
        self.0.get(index)
    }

    /// Returns the index of a random official SDK.
    pub fn pick_sdk(rng: &mut Rng) -> usize {
        rng.below(SDKS.len())
    }

    /// Returns the index of a random SDK of Anthropic.
    pub fn pick_anthropic_sdk(rng: &mut Rng) -> usize {
        let first = SDKS.iter().take_while(|row| !row.is_anthropic).count();
        first + rng.below(SDKS.len() - first)
    }

    /// Returns the index of a random app.
    pub fn pick_app(rng: &mut Rng) -> usize {
        SDKS.len() + rng.below(APPS.len())
    }

    /// Returns the index of a random SDK or library.
    pub fn pick_script(rng: &mut Rng) -> usize {
        if rng.chance(0.6) {
            Self::pick_sdk(rng)
        } else {
            SDKS.len() + APPS.len() + rng.below(LIBRARIES.len())
        }
    }

    /// Returns the index of a random SDK, app or library.
    pub fn pick_any(rng: &mut Rng) -> usize {
        rng.below(SDKS.len() + APPS.len() + LIBRARIES.len())
    }

    /// Returns the index of the gateway.
    pub fn gateway() -> usize {
        SDKS.len() + APPS.len() + LIBRARIES.len()
    }

    /// Returns the index of the client without a user agent.
    pub fn without_user_agent() -> usize {
        Self::gateway() + 1
    }
}

fn client_profile(index: usize, row: ProfileRow) -> ClientProfile {
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("accept".to_owned(), "application/json".to_owned()),
    ];
    if !row.user_agent.is_empty() {
        headers.push(("user-agent".to_owned(), row.user_agent.to_owned()));
        headers.push(("accept-encoding".to_owned(), "gzip, deflate, br".to_owned()));
    }
    if let Some(language) = row.sdk_language {
        let version = row.user_agent.rsplit([' ', '/']).next().unwrap_or_default();
        let rows = [
            ("lang", language),
            ("package-version", version),
            ("os", "Linux"),
            ("retry-count", "0"),
        ];
        headers.extend(rows.map(|(name, value)| (format!("x-stainless-{name}"), value.to_owned())));
    }
    if row.is_anthropic {
        headers.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
    }
    let mut fingerprint_rng = Rng::new(0x7e1e, index as u64);
    let tls_fingerprint =
        format!("{:016x}{:016x}", fingerprint_rng.next_u64(), fingerprint_rng.next_u64());
    let ProfileRow { is_anthropic, is_streaming, .. } = row;
    ClientProfile { headers, tls_fingerprint, is_anthropic, is_streaming }
}

/// The IP address of a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Address {
    /// Index of its network. The network determines the autonomous system and the country.
    pub network: u16,
    /// Index of the host in the network.
    pub host: u16,
}

impl Address {
    /// Draws an address of a home connection.
    pub fn home(rng: &mut Rng) -> Self {
        Self { network: rng.below(HOME_NETWORKS) as u16, host: rng.next_u64() as u16 }
    }

    /// Draws an address in a data centre.
    pub fn cloud(rng: &mut Rng) -> Self {
        Self {
            network: (HOME_NETWORKS + rng.below(CLOUD_NETWORKS)) as u16,
            host: rng.next_u64() as u16,
        }
    }

    /// Draws an address in the proxy network with an index.
    pub fn proxy(index: usize, rng: &mut Rng) -> Self {
        Self {
            network: (HOME_NETWORKS + CLOUD_NETWORKS + index % PROXY_NETWORKS) as u16,
            host: rng.below(HOSTS_PER_PROXY_NETWORK) as u16,
        }
    }

    /// Returns the number of the autonomous system, from the range that is reserved for private
    /// use.
    pub fn as_number(self) -> u32 {
        4_200_000_000 + u32::from(self.network)
    }

    /// Appends the IPv4 address to `out`.
    pub fn write_to(self, out: &mut String) {
        let [high, low] = (self.network + 0x2000).to_be_bytes();
        let [left, right] = self.host.to_be_bytes();
        let _ = std::fmt::Write::write_fmt(out, format_args!("{high}.{low}.{left}.{right}"));
    }

    /// Returns the ISO country code, which depends on the network only.
    pub fn country(self) -> &'static str {
        COUNTRIES.get(usize::from(self.network) % COUNTRIES.len()).copied().unwrap_or_default()
    }
}

/// Number of networks of home connections.
const HOME_NETWORKS: usize = 600;
/// Number of networks of data centres.
const CLOUD_NETWORKS: usize = 40;
/// Number of proxy networks.
const PROXY_NETWORKS: usize = 4_000;
/// Number of hosts in each proxy network.
const HOSTS_PER_PROXY_NETWORK: usize = 2_000;

const COUNTRIES: [&str; 16] = [
    "US", "US", "US", "DE", "GB", "FR", "BR", "IN", "JP", "KR", "CA", "AU", "ES", "SG", "NL", "MX",
];
