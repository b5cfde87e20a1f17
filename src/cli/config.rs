//! `hedgerow.toml`: which registry, which key, whose name. The environment overrides it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow::trust::Keys;
use serde::Deserialize;

use super::key::{PASSWORD, Signer};
use super::store::{Directory, Http, Store, Token};
use super::{Failure, Result, complain, unable};

/// Which registry a command deals with.
#[derive(clap::Args)]
pub struct Registry {
    /// The deployment's address, such as https://api.example.com; else HEDGEROW_URL, else `url` of
    /// the settings.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// The settings, of file and environment together.
#[derive(Debug, Default)]
pub struct Config {
    place: Option<Place>,
    rules: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
    author: Option<String>,
    public_keys: String,
}

/// Where bundles and releases are kept.
#[derive(Debug)]
enum Place {
    Url(String),
    Directory(PathBuf),
}

/// What may stand in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    directory: Option<PathBuf>,
    rules: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
    author: Option<String>,
    #[serde(default)]
    public_keys: Vec<String>,
}

impl Config {
    /// Reads the file that is named, or the one that is there, and the environment.
    pub fn load(named: Option<&Path>, registry: &Registry) -> Result<Self> {
        let named =
            named.map(Path::to_owned).or_else(|| variable("HEDGEROW_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(NAME));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(error) => return Err(unable(&path, &error)),
        };
        let file = parse(&path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let below = |path: PathBuf| base.join(path);
        let place = match place(registry)? {
            Some(place) => Some(place),
            None => {
                file.url.map(Place::Url).or_else(|| file.directory.map(below).map(Place::Directory))
            }
        };
        let user = || variable("USER").or_else(|| variable("USERNAME"));
        let public_keys = variable("HEDGEROW_PUBLIC_KEYS");
        Ok(Self {
            place,
            rules: file.rules.map(below),
            key: variable("HEDGEROW_KEY").map(PathBuf::from).or_else(|| file.key.map(below)),
            token_file: file.token_file.map(below),
            author: variable("HEDGEROW_AUTHOR").or(file.author).or_else(user),
            public_keys: public_keys.unwrap_or_else(|| file.public_keys.join("\n")),
        })
    }

    /// The rules: those that are named, else those of the settings.
    pub fn rules(&self, named: Option<&Path>) -> PathBuf {
        named.or(self.rules.as_deref()).unwrap_or(Path::new("rules")).to_owned()
    }

    /// Who releases.
    pub fn author(&self) -> String {
        self.author.clone().unwrap_or_default()
    }

    /// The key that signs.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.key.as_deref().ok_or_else(|| {
            Failure::Unable(format!(
                "no key to sign with; make one with `hedgerow keygen`, and name its file in \
                 HEDGEROW_KEY or as `key` in {NAME}"
            ))
        })?;
        Signer::load(path)
    }

    /// The keys that are believed: the one that signs, and those of the settings.
    pub fn believed(&self, signer: &Signer) -> Result<Keys> {
        let all = format!("{}\n{}", signer.public(), self.public_keys);
        Keys::parse(&all).map_err(|error| Failure::Unable(format!("public_keys: {error}")))
    }

    /// The registry.
    pub fn store(&self) -> Result<Box<dyn Store>> {
        match &self.place {
            Some(Place::Directory(path)) => Ok(Box::new(Directory::new(path))),
            _ => Ok(Box::new(self.http("this")?)),
        }
    }

    /// The registry, for what only a deployment can tell.
    pub fn http(&self, what: &str) -> Result<Http> {
        match &self.place {
            Some(Place::Url(url)) => Http::new(url, self.token()?),
            Some(Place::Directory(path)) => Err(Failure::Unable(format!(
                "{what} needs `url`, and the settings name the directory {}; a directory does not \
                 know what the edge does",
                path.display()
            ))),
            None => Err(Failure::Unable(format!(
                "no registry; give --url or HEDGEROW_URL, or `url` or `directory` in {NAME}"
            ))),
        }
    }

    fn token(&self) -> Result<Token> {
        if let Some(token) = variable("HEDGEROW_TOKEN") {
            return Token::new(&token, "HEDGEROW_TOKEN");
        }
        let path = self.token_file.as_deref().ok_or_else(|| {
            Failure::Unable(format!(
                "no token; set HEDGEROW_TOKEN, or name a file that holds it as `token_file` in {NAME}"
            ))
        })?;
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::Unable(format!("{}: {error}; it should hold the token", path.display()))
        })?;
        warn_if_open(path);
        Token::new(&text, &path.display().to_string())
    }
}

/// The place that the command line or the environment names.
fn place(registry: &Registry) -> Result<Option<Place>> {
    if let Some(url) = &registry.url {
        return Ok(Some(Place::Url(url.clone())));
    }
    match (variable("HEDGEROW_URL"), variable("HEDGEROW_DIRECTORY")) {
        (Some(_), Some(_)) => Err(Failure::Unable(
            "HEDGEROW_URL and HEDGEROW_DIRECTORY are both set; unset one".to_owned(),
        )),
        (Some(url), None) => Ok(Some(Place::Url(url))),
        (None, Some(path)) => Ok(Some(Place::Directory(PathBuf::from(path)))),
        (None, None) => Ok(None),
    }
}

fn parse(path: &Path, text: &str) -> Result<File> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        finding(path, text, at, error.message(), "the committed hedgerow.toml shows every setting")
    })?;
    if file.url.is_some() && file.directory.is_some() {
        let at = text.lines().scan(0, |at, line| {
            let start = *at;
            *at += line.len() + 1;
            Some((start, line))
        });
        let at = at.filter(|(_, line)| line.trim_start().starts_with("directory")).last();
        let at = at.map_or(0, |(at, _)| at);
        return Err(finding(
            path,
            text,
            at,
            "`url` and `directory` exclude each other",
            "keep one",
        ));
    }
    Ok(file)
}

fn finding(path: &Path, text: &str, at: usize, problem: &str, remedy: &str) -> Failure {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = problem.replace('\n', " ");
    Failure::Unable(format!("{}:{line}:{column}: {problem}; {remedy}", path.display()))
}

/// A variable of the environment that is not empty.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Warns where others can read a secret.
pub fn warn_if_open(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let path = path.display();
            complain(&format!("warning: others can read {path}; run `chmod 600 {path}`"));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, complain as fn(&str));
}

/// The passphrase that the environment holds.
pub fn password() -> Option<String> {
    variable(PASSWORD)
}

/// The file's name.
const NAME: &str = "hedgerow.toml";
