//! `hedgerow backup` and `hedgerow restore`: copy the signed bundles and releases of a deployment
//! to a directory, and back.
//!
//! The directory has the form from which a Worker pulls (`CONFIG_URL`), so a web server can serve
//! it while a deployment has no registry. `restore` needs no signing key, because the copies keep
//! their signatures.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hedgerow_core::Release;
use hedgerow_core::ruleset::{digest, short_digest};
use serde::Serialize;
use serde_json::Value;

use crate::atomic_file::write_atomically;
use crate::config::{Config, TargetArgs};
use crate::error::{Error, Outcome, Result};
use crate::remote::{
    AdminClient, DirectoryStore, ReleaseCommand, ReleaseStore, SignedText, changed_bundle,
};
use crate::terminal::{Format, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct BackupArgs {
    /// Write to this directory. Later backups of the same deployment add to it.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Copy the last N releases and their bundles.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    releases: u32,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Read the backup in this directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Restore the last N releases. The default is enough for `hedgerow rollback`.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    releases: u32,
    #[command(flatten)]
    target: TargetArgs,
}

/// The result of copying.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Copied {
    /// Serials of the copied releases, the oldest first.
    releases: Vec<u64>,
    /// Digests of the copied bundles.
    bundles: Vec<String>,
    /// The releases that could not be copied, each with the reason.
    skipped: Vec<Skipped>,
    /// Serial of the newest release in the target; 0 if it has none.
    serial: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Skipped {
    serial: u64,
    reason: String,
}

/// The parts of a registry's state that a backup contains only for people to read: a registry
/// cannot take them back. Each with its path in the admin API.
const RECORDS: [(&str, &str); 2] =
    [("audit.json", "/audit?limit=500"), ("indicators.json", "/indicators?limit=500")];

/// Runs `hedgerow backup`.
pub fn backup(args: &BackupArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow backup`")?;
    let directory = DirectoryStore::new(&args.directory);
    let copied = copy(&client, &directory, args.releases as usize)?;
    for (name, path) in RECORDS {
        let record: Value = client.get(path)?;
        write_atomically(&args.directory.join(name), &format!("{record}\n"))?;
    }
    print(&copied, &format!("in {}", args.directory.display()), format)
}

/// Runs `hedgerow restore`.
pub fn restore(args: &RestoreArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client: AdminClient =
        Config::load(config, &args.target)?.admin_client("`hedgerow restore`")?;
    let directory = DirectoryStore::new(&args.directory);
    if directory.current_release()?.is_none() {
        return Err(Error::Io(format!(
            "{}: expected the directory of a backup, with release.json; make one with `hedgerow \
             backup`",
            args.directory.display()
        )));
    }
    let copied = copy(&directory, &client, args.releases as usize)?;
    print(&copied, "in the deployment", format)
}

/// Copies the last `limit` releases that are newer than the current release of `to`, and their
/// bundles. Skips an older release whose bundles are no longer stored, or that `to` rejects, such
/// as an expired one.
///
/// # Errors
/// If the newest release cannot be copied, or if the current release of `to` differs from the
/// release of `from` with the same serial: then the two are of different deployments.
fn copy(from: &dyn ReleaseStore, to: &dyn ReleaseStore, limit: usize) -> Result<Copied> {
    let mut releases = from.releases()?;
    let mut copied = Copied { serial: current_serial(to)?, ..Copied::default() };
    check_same_history(&releases, to)?;
    releases.truncate(limit);
    let mut known: HashSet<String> = to.bundles()?.into_iter().map(|info| info.digest).collect();
    while let Some(signed) = releases.pop() {
        let release = parse(&signed)?;
        let serial = release.serial;
        if serial <= copied.serial {
            continue;
        }
        let result = copy_bundles(from, to, &release, &mut known);
        let result = result.and_then(|bundles| {
            to.publish(ReleaseCommand::Release, serial, &signed).map(|_| bundles)
        });
        match result {
            Ok(bundles) => {
                copied.bundles.extend(bundles);
                copied.releases.push(serial);
                copied.serial = serial;
            }
            Err(Error::Rejected(reason)) if !releases.is_empty() => {
                copied.skipped.push(Skipped { serial, reason });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(copied)
}

/// Copies the bundles of a release that are not in `known`, and adds them to it. Returns their
/// digests.
fn copy_bundles(
    from: &dyn ReleaseStore,
    to: &dyn ReleaseStore,
    release: &Release,
    known: &mut HashSet<String>,
) -> Result<Vec<String>> {
    let mut copied = Vec::new();
    for expected in release.digests() {
        if known.contains(expected) {
            continue;
        }
        let bundle = from.bundle(expected)?;
        let actual = digest(bundle.text.as_bytes());
        if actual != expected {
            return Err(changed_bundle(expected, &actual));
        }
        to.upload(expected, &bundle)?;
        known.insert(expected.to_owned());
        copied.push(expected.to_owned());
    }
    Ok(copied)
}

/// Checks that the current release of `to` does not differ from the one of `releases` with the same
/// serial.
fn check_same_history(releases: &[SignedText], to: &dyn ReleaseStore) -> Result<()> {
    let Some(current) = to.current_release()? else { return Ok(()) };
    let serial = parse(&current)?.serial;
    for release in releases {
        if parse(release)?.serial == serial && release.text != current.text {
            return Err(Error::Rejected(format!(
                "release {serial} differs in the backup and in the deployment: expected the same \
                 deployment; choose the other directory, or set `url` to the other deployment"
            )));
        }
    }
    Ok(())
}

fn current_serial(store: &dyn ReleaseStore) -> Result<u64> {
    let current = store.current_release()?;
    current.map_or(Ok(0), |current| parse(&current).map(|release| release.serial))
}

fn parse(release: &SignedText) -> Result<Release> {
    Release::parse(release.text.as_bytes())
        .map_err(|error| Error::Rejected(format!("a stored release: {error}")))
}

fn print(copied: &Copied, place: &str, format: Format) -> Result<Outcome> {
    for Skipped { serial, reason } in &copied.skipped {
        print_error(&format!("release {serial} is skipped: {reason}"));
    }
    if format == Format::Json {
        print_json(copied)?;
    } else {
        let Copied { releases, bundles, serial, .. } = copied;
        print_line(format_args!(
            "{} releases and {} bundles copied; the newest release {place} is {serial}",
            releases.len(),
            bundles.len()
        ))?;
        for bundle in bundles {
            print_line(format_args!("  bundle {}", short_digest(bundle)))?;
        }
    }
    Ok(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory that is deleted at the end of a test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("hedgerow-backup-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn store(&self) -> DirectoryStore {
            DirectoryStore::new(&self.0)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn signed(text: String) -> SignedText {
        SignedText { text, signature: "signature".to_owned() }
    }

    /// Publishes a release of a bundle whose text is `bundle`. The bundle is not stored.
    fn publish(store: &DirectoryStore, serial: u64, bundle: &str, note: &str) {
        let release = serde_json::json!({
            "release": 1, "serial": serial, "created": 0, "active": digest(bundle.as_bytes()),
            "note": note, "author": "",
        });
        store.publish(ReleaseCommand::Release, serial, &signed(release.to_string())).unwrap();
    }

    fn upload(store: &DirectoryStore, bundle: &str) {
        store.upload(&digest(bundle.as_bytes()), &signed(bundle.to_owned())).unwrap();
    }

    #[test]
    fn a_copy_has_the_same_releases_and_bundles_and_later_copies_add_to_it() {
        let (from, to) = (Scratch::new("from"), Scratch::new("to"));
        let (from, to) = (from.store(), to.store());
        for (serial, bundle) in [(3, "first"), (5, "second"), (8, "second")] {
            upload(&from, bundle);
            publish(&from, serial, bundle, "");
        }
        let copied = copy(&from, &to, 2).unwrap();
        assert_eq!((copied.releases, copied.bundles.len()), (vec![5, 8], 1));
        assert_eq!(copy(&from, &to, 2).unwrap(), Copied { serial: 8, ..Copied::default() });
        publish(&from, 9, "first", "");
        assert_eq!(copy(&from, &to, 100).unwrap().releases, [9]);
        let texts = |store: &DirectoryStore| -> Vec<String> {
            store.releases().unwrap().into_iter().map(|release| release.text).collect()
        };
        assert_eq!(texts(&to), texts(&from)[..3]);
        let bundle = to.bundle(&digest(b"first")).unwrap();
        assert_eq!((bundle.text.as_str(), bundle.signature.as_str()), ("first", "signature"));
    }

    #[test]
    fn a_changed_bundle_is_fatal_only_in_the_newest_release() {
        let (from, to) = (Scratch::new("changed-from"), Scratch::new("changed-to"));
        let (from_store, to) = (from.store(), to.store());
        for (serial, bundle) in [(1, "first"), (2, "second")] {
            upload(&from_store, bundle);
            publish(&from_store, serial, bundle, "");
        }
        let path = |bundle: &str| {
            let name = format!("{}.json", digest(bundle.as_bytes()));
            from.0.join("bundles").join(name)
        };
        fs::write(path("first"), "other").unwrap();
        let copied = copy(&from_store, &to, 100).unwrap();
        assert_eq!(copied.releases, [2]);
        assert_eq!(copied.skipped.iter().map(|skipped| skipped.serial).collect::<Vec<_>>(), [1]);
        publish(&from_store, 3, "first", "");
        assert!(matches!(copy(&from_store, &to, 100), Err(Error::Rejected(_))));
    }

    #[test]
    fn the_backup_of_another_deployment_is_rejected() {
        let (from, to) = (Scratch::new("other-from"), Scratch::new("other-to"));
        let (from, to) = (from.store(), to.store());
        for (store, note) in [(&from, "ours"), (&to, "theirs")] {
            upload(store, "bundle");
            publish(store, 4, "bundle", note);
        }
        let Err(Error::Rejected(problem)) = copy(&from, &to, 100) else { panic!() };
        assert!(problem.contains("release 4 differs"), "{problem}");
    }
}
