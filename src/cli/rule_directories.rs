//! The directories from which a command reads rules: one directory, or several layers.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The setting `rules`: one directory, or layers, of which the first is the lowest.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the path of a directory, or a list of paths")]
pub enum RulesSetting {
    One(PathBuf),
    Layers(Vec<PathBuf>),
}

/// Directories of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDirectories {
    /// Directory to which the paths in findings are relative; empty for the current directory.
    base: PathBuf,
    /// Paths of the layers below `base`, as they were written, except for `.` and `//`. A single
    /// directory is `base` itself, and its name is empty.
    names: Vec<String>,
}

impl RuleDirectories {
    /// Returns a single directory.
    pub fn one(directory: &Path) -> Self {
        Self { base: directory.to_owned(), names: vec![String::new()] }
    }

    /// Returns layers, whose paths are relative to `base`. One layer is a single directory. Returns
    /// an error if `directories` is empty, or if it contains a directory twice.
    pub fn layers(base: &Path, directories: &[PathBuf]) -> Result<Self> {
        if let [directory] = directories {
            return Ok(Self::one(&base.join(directory)));
        }
        let mut names: Vec<String> = Vec::new();
        for directory in directories {
            let name = layer_name(directory);
            if name.is_empty() || names.iter().any(|other| is_same(base, other, &name)) {
                return Err(Error::Io(format!(
                    "the layers of rules contain '{}' twice, or an empty path: expected one path \
                     for each layer; correct `rules` in the settings",
                    directory.display()
                )));
            }
            names.push(name);
        }
        if names.is_empty() {
            return Err(Error::Io(
                "`rules` is empty: expected a directory, or layers such as [\"vendor\", \"ours\"]; \
                 name them in the settings"
                    .to_owned(),
            ));
        }
        Ok(Self { base: base.to_owned(), names })
    }

    /// Returns the directories of a setting. Its paths are relative to `base`.
    pub fn from_setting(base: &Path, setting: &RulesSetting) -> Result<Self> {
        match setting {
            RulesSetting::One(directory) => Ok(Self::one(&base.join(directory))),
            RulesSetting::Layers(directories) => Self::layers(base, directories),
        }
    }

    /// Returns the names of the layers, and their directories, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.names.iter().map(|name| {
            let directory = if name.is_empty() { self.base.clone() } else { self.base.join(name) };
            (name.as_str(), directory)
        })
    }

    /// Returns the directory of the uppermost layer.
    pub fn uppermost(&self) -> PathBuf {
        self.iter().last().map_or_else(|| self.base.clone(), |(_, directory)| directory)
    }

    /// Returns the path that a finding has for the user.
    pub fn locate(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Returns whether there are several layers.
    pub fn is_layered(&self) -> bool {
        self.names.len() > 1
    }

    /// Returns the paths of all directories, for messages.
    pub fn describe(&self) -> String {
        let paths: Vec<String> =
            self.iter().map(|(_, directory)| directory.display().to_string()).collect();
        paths.join(", ")
    }
}

/// Returns the name of a layer: its path without `.` and without repeated separators. `..` stays,
/// because the directory before it may be a link.
fn layer_name(directory: &Path) -> String {
    let parts = directory.components().filter(|part| *part != Component::CurDir);
    let name = parts.collect::<PathBuf>().display().to_string();
    let is_current = name.is_empty() && !directory.as_os_str().is_empty();
    if is_current { ".".to_owned() } else { name }
}

/// Returns whether two names of layers are the same directory. Directories that do not exist are
/// compared by name.
fn is_same(base: &Path, a: &str, b: &str) -> bool {
    let [real_a, real_b] = [a, b].map(|name| fs::canonicalize(base.join(name)).ok());
    a == b || (real_a.is_some() && real_a == real_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_named_without_dots_and_repeated_separators() {
        let rows = [
            (".//vendor", "vendor"),
            ("././vendor/", "vendor"),
            ("a//b/./c", "a/b/c"),
            ("../ours", "../ours"),
            ("x/../a", "x/../a"),
            ("//a", "/a"),
            (".hidden", ".hidden"),
            (".", "."),
            ("", ""),
        ];
        for (path, name) in rows {
            assert_eq!(layer_name(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn one_directory_is_not_two_layers() {
        let base = std::env::temp_dir().join(format!("hedgerow-layers-{}", std::process::id()));
        fs::create_dir_all(base.join("x")).unwrap();
        fs::create_dir_all(base.join("a")).unwrap();
        let layers = |names: [&str; 2]| RuleDirectories::layers(&base, &names.map(PathBuf::from));
        assert!(layers(["a", "x"]).is_ok());
        for other in ["x/../a", "./a", "a/."] {
            let error = format!("{:?}", layers(["a", other]).unwrap_err());
            assert!(error.contains(&format!("contain '{other}' twice")), "{error}");
        }
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_setting_names_one_directory_or_layers() {
        let parse = |text: &str| {
            #[derive(Deserialize)]
            struct File {
                rules: RulesSetting,
            }
            let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
            let directories = RuleDirectories::from_setting(Path::new("/p"), &file.rules);
            directories.map_err(|error| format!("{error:?}"))
        };
        let rows = [
            ("rules = 'rules'", "/p/rules", "/p/rules/a.yml"),
            ("rules = ['rules']", "/p/rules", "/p/rules/a.yml"),
            ("rules = ['./vendor/', '../ours']", "/p/vendor, /p/../ours", "/p/a.yml"),
        ];
        for (text, directories, finding) in rows {
            let found = parse(text).unwrap();
            assert_eq!(found.describe(), directories, "{text}");
            assert_eq!(found.locate("a.yml"), Path::new(finding), "{text}");
        }
        let rows = [
            ("rules = []", "`rules` is empty"),
            ("rules = ['a', 'a/']", "contain 'a/' twice"),
            ("rules = ['a', '']", "contain '' twice, or an empty path"),
            ("rules = 1", "expected the path of a directory, or a list of paths"),
        ];
        for (text, problem) in rows {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
