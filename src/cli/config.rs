//! Settings of the commands that use a registry: `hedgerow.toml`, overridden by the environment.

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::rules::trusted_keys::TrustedKeys;
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Result, io_error};
use crate::remote::{AdminClient, DirectoryStore, ReleaseStore, Token};
use crate::rule_directories::{RuleDirectories, RulesSetting};
use crate::secret_file::{env_var, warn_if_readable_by_others};
use crate::signer::Signer;

/// The deployment that a command uses.
#[derive(Default, clap::Args)]
pub struct TargetArgs {
    /// Use the deployment at this URL, such as https://api.example.com; default: HEDGEROW_URL, or
    /// `url` in the settings.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Settings from the command line, the environment and the settings file. Paths from the file are
/// resolved against the directory of the file.
#[derive(Debug, Default)]
pub struct Config {
    target: Option<Target>,
    key_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    author: Option<String>,
    public_keys: String,
}

/// Location of bundles and releases.
#[derive(Debug)]
enum Target {
    Url(String),
    Directory(PathBuf),
}

/// The members of the settings file. Paths are relative to the directory of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    url: Option<String>,
    directory: Option<Spanned<PathBuf>>,
    rules: Option<RulesSetting>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
    author: Option<String>,
    #[serde(default)]
    public_keys: Vec<String>,
}

impl Config {
    /// Reads the environment and the settings file. The path of the file is `config_path`, or else
    /// HEDGEROW_CONFIG, or else `hedgerow.toml`, which may be missing.
    pub fn load(config_path: Option<&Path>, target_args: &TargetArgs) -> Result<Self> {
        let (path, file) = read_config(config_path)?;
        let base = directory_of(&path);
        let resolve_path = |path: PathBuf| base.join(path);
        let target = match target_from_args_or_env(target_args)? {
            Some(target) => Some(target),
            None => file.url.map(Target::Url).or_else(|| {
                let directory = file.directory.map(Spanned::into_inner);
                directory.map(resolve_path).map(Target::Directory)
            }),
        };
        let user = || env_var("USER").or_else(|| env_var("USERNAME"));
        let public_keys = env_var("HEDGEROW_PUBLIC_KEYS");
        Ok(Self {
            target,
            key_file: env_var("HEDGEROW_KEY")
                .map(PathBuf::from)
                .or_else(|| file.key.map(resolve_path)),
            token_file: file.token_file.map(resolve_path),
            author: env_var("HEDGEROW_AUTHOR").or(file.author).or_else(user),
            public_keys: public_keys.unwrap_or_else(|| file.public_keys.join("\n")),
        })
    }

    /// Returns the author of releases; empty if neither the settings nor the environment name an
    /// author.
    pub fn author(&self) -> String {
        self.author.clone().unwrap_or_default()
    }

    /// Reads the signing key.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.key_file.as_deref().ok_or_else(|| {
            Error::Io(format!(
                "no signing key is configured: expected `key` in {CONFIG_FILE_NAME} or \
                 HEDGEROW_KEY; `hedgerow keygen` makes a key"
            ))
        })?;
        Signer::load(path)
    }

    /// Returns the keys whose signatures are trusted: the key of `signer`, and the keys of the
    /// settings.
    pub fn trusted_keys(&self, signer: &Signer) -> Result<TrustedKeys> {
        let encoded_keys = format!("{}\n{}", signer.public_key(), self.public_keys);
        TrustedKeys::parse(&encoded_keys)
            .map_err(|error| Error::Io(format!("public_keys: {error}")))
    }

    /// Opens the store of bundles and releases.
    pub fn store(&self) -> Result<Box<dyn ReleaseStore>> {
        match &self.target {
            Some(Target::Url(url)) => Ok(Box::new(AdminClient::new(url, self.token()?)?)),
            Some(Target::Directory(path)) => Ok(Box::new(DirectoryStore::new(path))),
            None => Err(no_registry()),
        }
    }

    /// Returns a client of the deployment's admin API. If the settings have a directory instead of
    /// a URL, the error names `command`, which needs a deployment.
    pub fn admin_client(&self, command: &str) -> Result<AdminClient> {
        match &self.target {
            Some(Target::Url(url)) => AdminClient::new(url, self.token()?),
            Some(Target::Directory(path)) => Err(Error::Io(format!(
                "{command} needs a deployment: expected `url` in the settings, and they have the \
                 directory {}; give --url or HEDGEROW_URL",
                path.display()
            ))),
            None => Err(no_registry()),
        }
    }

    fn token(&self) -> Result<Token> {
        if let Some(token) = env_var("HEDGEROW_TOKEN") {
            return Token::new(&token, "HEDGEROW_TOKEN");
        }
        let path = self.token_file.as_deref().ok_or_else(|| {
            Error::Io(format!(
                "no token is configured: expected HEDGEROW_TOKEN, or the path of a file with the \
                 token as `token_file` in {CONFIG_FILE_NAME}; set one of them"
            ))
        })?;
        let text = fs::read_to_string(path).map_err(|error| {
            Error::Io(format!(
                "{}: {error}: expected a file with the token; correct `token_file` in \
                 {CONFIG_FILE_NAME}",
                path.display()
            ))
        })?;
        warn_if_readable_by_others(path);
        Token::new(&text, &path.display().to_string())
    }
}

/// Returns the directories of rules that the settings name, or else `rules`. The settings are those
/// of [`Config::load`].
pub fn rule_directories(config_path: Option<&Path>) -> Result<RuleDirectories> {
    let (path, file) = read_config(config_path)?;
    match &file.rules {
        Some(setting) => RuleDirectories::from_setting(directory_of(&path), setting),
        None => Ok(RuleDirectories::one(Path::new(DEFAULT_RULES))),
    }
}

/// Returns the directories of rules that a settings file names, or else `rules` next to the file.
/// This is for a command whose argument is the file: the rules are then those of its project,
/// wherever the command runs.
pub fn project_rule_directories(config_path: &Path) -> Result<RuleDirectories> {
    let (path, file) = read_config(Some(config_path))?;
    let default = RulesSetting::One(PathBuf::from(DEFAULT_RULES));
    RuleDirectories::from_setting(directory_of(&path), file.rules.as_ref().unwrap_or(&default))
}

/// Returns the directory of a settings file; empty for the current directory.
fn directory_of(config_path: &Path) -> &Path {
    config_path.parent().unwrap_or(Path::new(""))
}

/// Reads the settings file, and returns its path. The path is `config_path`, or else
/// HEDGEROW_CONFIG, or else `hedgerow.toml`, which may be missing.
fn read_config(config_path: Option<&Path>) -> Result<(PathBuf, ConfigFile)> {
    let explicit_path =
        config_path.map(Path::to_owned).or_else(|| env_var("HEDGEROW_CONFIG").map(PathBuf::from));
    let path = explicit_path.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE_NAME));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if explicit_path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            String::new()
        }
        Err(error) => return Err(io_error(&path, &error)),
    };
    let file = parse_config(&path, &text)?;
    Ok((path, file))
}

fn no_registry() -> Error {
    Error::Io(format!(
        "no registry is configured: expected `url` or `directory` in {CONFIG_FILE_NAME}, --url, \
         HEDGEROW_URL or HEDGEROW_DIRECTORY; give one of them"
    ))
}

/// Returns the target that the command line or else the environment names; `None` if neither does.
/// Returns an error if the environment names both a URL and a directory.
fn target_from_args_or_env(args: &TargetArgs) -> Result<Option<Target>> {
    if let Some(url) = &args.url {
        return Ok(Some(Target::Url(url.clone())));
    }
    match (env_var("HEDGEROW_URL"), env_var("HEDGEROW_DIRECTORY")) {
        (Some(_), Some(_)) => Err(Error::Io(
            "HEDGEROW_URL and HEDGEROW_DIRECTORY are both set: expected one; unset the other"
                .to_owned(),
        )),
        (Some(url), None) => Ok(Some(Target::Url(url))),
        (None, Some(path)) => Ok(Some(Target::Directory(PathBuf::from(path)))),
        (None, None) => Ok(None),
    }
}

fn parse_config(path: &Path, text: &str) -> Result<ConfigFile> {
    let file: ConfigFile = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let remedy = "the hedgerow.toml of the repository shows every setting";
        config_error(path, text, offset, error.message(), remedy)
    })?;
    if let (Some(_), Some(directory)) = (&file.url, &file.directory) {
        let problem = "`url` and `directory` are both set: expected one";
        return Err(config_error(path, text, directory.span().start, problem, "remove the other"));
    }
    Ok(file)
}

/// Returns an error with the line and column of a byte offset in the settings.
fn config_error(path: &Path, text: &str, offset: usize, problem: &str, remedy: &str) -> Error {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = problem.replace('\n', " ");
    Error::Io(format!("{}:{line}:{column}: {problem}; {remedy}", path.display()))
}

/// Directory of rules if the settings name none.
const DEFAULT_RULES: &str = "rules";

/// Default path of the settings file.
pub const CONFIG_FILE_NAME: &str = "hedgerow.toml";
