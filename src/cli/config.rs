//! `hedgerow.toml`: which registry, which key, whose name. The environment overrides it.

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::rules::trusted_keys::TrustedKeys;
use serde::Deserialize;

use crate::remote::{AdminClient, DirectoryStore, ReleaseStore, Token};
use crate::secret_file::{env_var, warn_if_readable_by_others};
use crate::signer::Signer;
use crate::{Error, Result, io_error};

/// Which registry a command deals with.
#[derive(clap::Args)]
pub struct TargetArgs {
    /// The deployment's address, such as https://api.example.com; else HEDGEROW_URL, else `url` of
    /// the settings.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// The settings, of file and environment together.
#[derive(Debug, Default)]
pub struct Config {
    target: Option<Target>,
    rules_directory: Option<PathBuf>,
    key_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    author: Option<String>,
    public_keys: String,
}

/// Where bundles and releases are kept.
#[derive(Debug)]
enum Target {
    Url(String),
    Directory(PathBuf),
}

/// What may stand in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
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
    pub fn load(config_path: Option<&Path>, target_args: &TargetArgs) -> Result<Self> {
        let explicit_path = config_path
            .map(Path::to_owned)
            .or_else(|| env_var("HEDGEROW_CONFIG").map(PathBuf::from));
        let path = explicit_path.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE_NAME));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if explicit_path.is_none() && error.kind() == std::io::ErrorKind::NotFound =>
            {
                String::new()
            }
            Err(error) => return Err(io_error(&path, &error)),
        };
        let file = parse_config(&path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let resolve_path = |path: PathBuf| base.join(path);
        let target = match target_from_args_or_env(target_args)? {
            Some(target) => Some(target),
            None => file
                .url
                .map(Target::Url)
                .or_else(|| file.directory.map(resolve_path).map(Target::Directory)),
        };
        let user = || env_var("USER").or_else(|| env_var("USERNAME"));
        let public_keys = env_var("HEDGEROW_PUBLIC_KEYS");
        Ok(Self {
            target,
            rules_directory: file.rules.map(resolve_path),
            key_file: env_var("HEDGEROW_KEY")
                .map(PathBuf::from)
                .or_else(|| file.key.map(resolve_path)),
            token_file: file.token_file.map(resolve_path),
            author: env_var("HEDGEROW_AUTHOR").or(file.author).or_else(user),
            public_keys: public_keys.unwrap_or_else(|| file.public_keys.join("\n")),
        })
    }

    /// The rules: those that are named, else those of the settings.
    pub fn rules_directory(&self, explicit: Option<&Path>) -> PathBuf {
        explicit.or(self.rules_directory.as_deref()).unwrap_or(Path::new("rules")).to_owned()
    }

    /// Who releases.
    pub fn author(&self) -> String {
        self.author.clone().unwrap_or_default()
    }

    /// The key that signs.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.key_file.as_deref().ok_or_else(|| {
            Error::Io(format!(
                "no key to sign with; make one with `hedgerow keygen`, and name its file in \
                 HEDGEROW_KEY or as `key` in {CONFIG_FILE_NAME}"
            ))
        })?;
        Signer::load(path)
    }

    /// The keys that are believed: the one that signs, and those of the settings.
    pub fn trusted_keys(&self, signer: &Signer) -> Result<TrustedKeys> {
        let encoded_keys = format!("{}\n{}", signer.public_key(), self.public_keys);
        TrustedKeys::parse(&encoded_keys)
            .map_err(|error| Error::Io(format!("public_keys: {error}")))
    }

    /// The registry.
    pub fn store(&self) -> Result<Box<dyn ReleaseStore>> {
        match &self.target {
            Some(Target::Directory(path)) => Ok(Box::new(DirectoryStore::new(path))),
            _ => Ok(Box::new(self.admin_client("this")?)),
        }
    }

    /// The registry, for what only a deployment can tell.
    pub fn admin_client(&self, command: &str) -> Result<AdminClient> {
        match &self.target {
            Some(Target::Url(url)) => AdminClient::new(url, self.token()?),
            Some(Target::Directory(path)) => Err(Error::Io(format!(
                "{command} needs `url`, and the settings name the directory {}; a directory does not \
                 know what the edge does",
                path.display()
            ))),
            None => Err(Error::Io(format!(
                "no registry; give --url or HEDGEROW_URL, or `url` or `directory` in {CONFIG_FILE_NAME}"
            ))),
        }
    }

    fn token(&self) -> Result<Token> {
        if let Some(token) = env_var("HEDGEROW_TOKEN") {
            return Token::new(&token, "HEDGEROW_TOKEN");
        }
        let path = self.token_file.as_deref().ok_or_else(|| {
            Error::Io(format!(
                "no token; set HEDGEROW_TOKEN, or name a file that holds it as `token_file` in {CONFIG_FILE_NAME}"
            ))
        })?;
        let text = fs::read_to_string(path).map_err(|error| {
            Error::Io(format!("{}: {error}; it should hold the token", path.display()))
        })?;
        warn_if_readable_by_others(path);
        Token::new(&text, &path.display().to_string())
    }
}

/// The place that the command line or the environment names.
fn target_from_args_or_env(args: &TargetArgs) -> Result<Option<Target>> {
    if let Some(url) = &args.url {
        return Ok(Some(Target::Url(url.clone())));
    }
    match (env_var("HEDGEROW_URL"), env_var("HEDGEROW_DIRECTORY")) {
        (Some(_), Some(_)) => {
            Err(Error::Io("HEDGEROW_URL and HEDGEROW_DIRECTORY are both set; unset one".to_owned()))
        }
        (Some(url), None) => Ok(Some(Target::Url(url))),
        (None, Some(path)) => Ok(Some(Target::Directory(PathBuf::from(path)))),
        (None, None) => Ok(None),
    }
}

fn parse_config(path: &Path, text: &str) -> Result<ConfigFile> {
    let file: ConfigFile = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        config_error(
            path,
            text,
            offset,
            error.message(),
            "the committed hedgerow.toml shows every setting",
        )
    })?;
    if file.url.is_some() && file.directory.is_some() {
        let line_starts = text.lines().scan(0, |offset, line| {
            let start = *offset;
            *offset += line.len() + 1;
            Some((start, line))
        });
        let directory_line =
            line_starts.filter(|(_, line)| line.trim_start().starts_with("directory")).last();
        let offset = directory_line.map_or(0, |(start, _)| start);
        return Err(config_error(
            path,
            text,
            offset,
            "`url` and `directory` exclude each other",
            "keep one",
        ));
    }
    Ok(file)
}

fn config_error(path: &Path, text: &str, offset: usize, problem: &str, remedy: &str) -> Error {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = problem.replace('\n', " ");
    Error::Io(format!("{}:{line}:{column}: {problem}; {remedy}", path.display()))
}

/// The file's name.
const CONFIG_FILE_NAME: &str = "hedgerow.toml";
