//! Checks and loads the sets of known prompts: the files `seeds/<name>.fuse` that the policy names
//! under `[[seeds]]`.

use hedgerow_core::rules::policy::Policy;
use hedgerow_core::seeds::{MAX_SEED_BYTES, MAX_SEED_SETS, SeedFile, SeedSet, is_seed_name};
use toml::de::DeTable;

use crate::layers::Layer;
use crate::suggestion::did_you_mean;
use crate::toml::{TomlDiagnostics, check_unique, entries, text};

/// Returns whether a path is the path of a seed set.
pub fn is_seed_file(path: &str) -> bool {
    path.starts_with("seeds/") && path.ends_with(".fuse")
}

/// Checks the seed sets of the policy: their number, the name of each set, and the total size of
/// all sets. Also checks that the file of each set exists and is valid.
pub fn check(document: &DeTable<'_>, layers: &[Layer<'_>], diagnostics: &mut TomlDiagnostics<'_>) {
    let files = || layers.iter().flat_map(|layer| layer.files);
    let mut total = 0_usize;
    for (number, (offset, entry)) in entries(document, "seeds").enumerate() {
        if let Some((offset, name)) = text(entry, "name")
            && !is_seed_name(name)
        {
            let problem =
                format!("the name '{name}' is invalid: expected a-z, 0-9 and underscores");
            diagnostics.add(offset, problem, "use at most 40 of these characters");
        }
        if number == MAX_SEED_SETS {
            let problem = format!("there are more than {MAX_SEED_SETS} seed sets");
            diagnostics.add(offset, problem, "remove some, or build one set from several files");
        }
        let Some((offset, path)) = text(entry, "file") else { continue };
        let Some(file) = files().find(|file| is_seed_file(path) && file.path == path) else {
            let paths = files().map(|file| file.path.as_str());
            let remedy = did_you_mean(path, paths.filter(|path| is_seed_file(path)));
            let remedy = remedy.unwrap_or_else(|| {
                "build it with `hedgerow seeds build … -o rules/seeds/NAME.fuse`".to_owned()
            });
            diagnostics.add(offset, format!("there is no seed set '{path}'"), remedy);
            continue;
        };
        match SeedFile::parse(&file.text) {
            Ok(seeds) => total = total.saturating_add(seeds.size()),
            Err(error) => {
                let problem = format!("'{path}': {}", error.problem());
                diagnostics.add(offset, problem, error.remedy());
            }
        }
        if total > MAX_SEED_BYTES {
            let problem = format!(
                "the seed sets up to '{path}' have {total} bytes: expected {MAX_SEED_BYTES}"
            );
            diagnostics.add(offset, problem, "build them from fewer prompts, or remove some");
        }
    }
    check_unique(document, "seeds", "name", diagnostics);
}

/// Returns the sets that a checked policy names, sorted by name.
pub fn load(policy: &Policy, layers: &[Layer<'_>]) -> Vec<SeedSet> {
    let sets = policy.seeds.iter().filter_map(|source| {
        let mut files = layers.iter().flat_map(|layer| layer.files);
        let file = files.find(|file| file.path == source.file)?;
        Some(SeedSet { name: source.name.clone(), filter: SeedFile::parse(&file.text).ok()? })
    });
    let mut sets: Vec<SeedSet> = sets.collect();
    sets.sort_by(|left, right| left.name.cmp(&right.name));
    sets
}
