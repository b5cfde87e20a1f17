//! Scores a corpus: each file alone, on all processors, and all files together with correlations.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use hedgerow_core::rules::policy::Band;
use hedgerow_core::{Decision, Ruleset};
use hedgerow_sigma::recorded::RecordedRequest;
use indicatif::ProgressBar;

use super::disguise::{DisguiseCounts, disguises, parse_chat};
use super::language;
use super::scored::{Corpus, HARVEST, Run, ScoredRequest, ScoredVerdict, SignatureTable};
use crate::cmd::replay::{
    ReplayEngine, ReplayEvent, UNLABELLED, locate_problems, progress_bar, read_merged,
};
use crate::error::{Error, Result};

/// The optional parts of an evaluation, which take additional time.
#[derive(Clone, Copy)]
pub struct ScoringOptions {
    /// Whether all files are also scored together, with correlations.
    pub correlate: bool,
    /// Whether a sample of each harvest run is also scored under disguises.
    pub disguises: bool,
}

/// Scores files. The result keeps the requests in the order of their file. Correlations process the
/// requests of all files in the order of time, as if one deployment had received them.
pub fn score_corpus(
    files: &[PathBuf],
    ruleset: &Ruleset,
    options: ScoringOptions,
) -> Result<Corpus> {
    let table = SignatureTable::new(ruleset);
    let bar = progress_bar(files);
    if options.correlate {
        bar.set_length(bar.length().unwrap_or_default().saturating_mul(2));
    }
    let (alone, mut correlated) = thread::scope(|scope| {
        let correlated =
            options.correlate.then(|| scope.spawn(|| score_together(files, ruleset, &table, &bar)));
        let alone = score_each(files, ruleset, &table, options.disguises, &bar);
        Ok::<_, Error>((alone?, correlated.map(join).transpose()?.unwrap_or_default()))
    })?;
    bar.finish_and_clear();
    let mut corpus = Corpus {
        is_correlated: options.correlate,
        disguises: options.disguises.then(DisguiseCounts::all),
        ..Corpus::default()
    };
    for (file_index, file) in alone.into_iter().enumerate() {
        corpus.not_llm_calls += file.not_llm_calls;
        corpus.not_judged += file.not_judged;
        corpus.unreadable.extend(file.unreadable);
        for (sum, counts) in corpus.disguises.iter_mut().flatten().zip(&file.disguises) {
            sum.requests += counts.requests;
            sum.notice += counts.notice;
            sum.suspect += counts.suspect;
        }
        for mut run in file.runs {
            for request in &mut run.requests {
                request.correlated = correlated.remove(&(file_index, request.line));
            }
            corpus.runs.push(run);
        }
    }
    corpus.signatures = table;
    Ok(corpus)
}

/// A file after scoring.
#[derive(Default)]
struct ScoredFile {
    runs: Vec<Run>,
    /// Counts of each disguise, in the order of [`disguises`].
    disguises: Vec<DisguiseCounts>,
    not_llm_calls: u64,
    not_judged: u64,
    unreadable: Vec<String>,
}

/// Verdicts by index of the file and number of the line.
type VerdictsByLine = HashMap<(usize, usize), ScoredVerdict>;

fn join<T>(handle: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|_| Err(Error::Io("a thread of the evaluation failed".to_owned())))
}

/// Scores all files together, with correlations.
fn score_together(
    files: &[PathBuf],
    ruleset: &Ruleset,
    table: &SignatureTable,
    bar: &ProgressBar,
) -> Result<VerdictsByLine> {
    let mut engine = ReplayEngine::new(ruleset, true);
    let mut verdicts = HashMap::new();
    read_merged(files, bar, &mut |event| {
        if let ReplayEvent::Request { file_index, line, recorded } = event
            && let Some(evaluated) = engine.evaluate(recorded)
        {
            verdicts.insert((file_index, line), table.verdict(&evaluated.decision));
        }
        Ok(())
    })?;
    Ok(verdicts)
}

/// Scores each file alone, in as many threads as there are processors. The result has the order of
/// the files.
fn score_each(
    files: &[PathBuf],
    ruleset: &Ruleset,
    table: &SignatureTable,
    disguises: bool,
    bar: &ProgressBar,
) -> Result<Vec<ScoredFile>> {
    let next = AtomicUsize::new(0);
    let scored: Mutex<Vec<(usize, ScoredFile)>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
    thread::scope(|scope| {
        let work = || {
            while let Some((index, path)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                files.get(index).map(|path| (index, path))
            } {
                let file = score_file(path, ruleset, table, disguises, bar)?;
                scored.lock().unwrap_or_else(PoisonError::into_inner).push((index, file));
            }
            Ok(())
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(join)
    })?;
    let mut scored = scored.into_inner().unwrap_or_else(PoisonError::into_inner);
    scored.sort_by_key(|(index, _)| *index);
    Ok(scored.into_iter().map(|(_, file)| file).collect())
}

/// Scores each request of a file alone, without correlations.
fn score_file(
    path: &Path,
    ruleset: &Ruleset,
    table: &SignatureTable,
    disguises: bool,
    bar: &ProgressBar,
) -> Result<ScoredFile> {
    let mut engine = ReplayEngine::new(ruleset, false);
    let mut file = ScoredFile::default();
    // Tool and task of each run in `file.runs`, in the same order.
    let mut keys: Vec<RunKey> = Vec::new();
    let mut chats: Vec<(usize, RecordedRequest)> = Vec::new();
    read_merged(&[path.to_owned()], bar, &mut |event| {
        let (line, recorded) = match event {
            ReplayEvent::Unreadable { line, problem, .. } => {
                let path = path.display().to_string();
                file.unreadable.push(locate_problems(&path, line, problem));
                return Ok(());
            }
            ReplayEvent::Request { line, recorded, .. } => (line, recorded),
        };
        let Some(evaluated) = engine.evaluate(recorded) else {
            let lacks_body = engine.lacks_body(recorded);
            file.not_judged += u64::from(lacks_body);
            file.not_llm_calls += u64::from(!lacks_body);
            return Ok(());
        };
        let key = (recorded.tool.clone(), recorded.task.clone());
        let index = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            file.runs.push(new_run(path, recorded));
            keys.len() - 1
        });
        let Some(run) = file.runs.get_mut(index) else { return Ok(()) };
        if run.label == UNLABELLED {
            run.label = recorded.label.clone().unwrap_or_else(|| UNLABELLED.to_owned());
        }
        run.requests.push(scored_request(line, recorded, &evaluated.decision, table));
        if disguises && recorded.label.as_deref() == Some(HARVEST) {
            chats.extend(parse_chat(&recorded.body).map(|_| (index, recorded.clone())));
        }
        Ok(())
    })?;
    if let [run] = file.runs.as_mut_slice() {
        run.name = stem(path);
    }
    if disguises {
        score_disguised_runs(&mut file, &chats, &mut engine);
    }
    Ok(file)
}

/// Converts a decision that was made without correlations to a scored request.
fn scored_request(
    line: usize,
    recorded: &RecordedRequest,
    decision: &Decision,
    table: &SignatureTable,
) -> ScoredRequest {
    ScoredRequest {
        line,
        account: decision.account.clone().unwrap_or_default(),
        language: language::of_body(&recorded.body),
        dialect: decision.dialect,
        uncorrelated: table.verdict(decision),
        correlated: None,
    }
}

/// Scores the chats of each run of a file under disguises. `chats` contains the index of the run of
/// each chat.
fn score_disguised_runs(
    file: &mut ScoredFile,
    chats: &[(usize, RecordedRequest)],
    engine: &mut ReplayEngine<'_>,
) {
    file.disguises = DisguiseCounts::all();
    for index in 0..file.runs.len() {
        let chats = chats.iter().filter(|(run, _)| *run == index).map(|(_, chat)| chat);
        let chats: Vec<&RecordedRequest> = chats.collect();
        score_disguises(&chats, engine, &mut file.disguises);
    }
}

/// Tool and task.
type RunKey = (Option<String>, Option<String>);

/// Returns a new, empty run with the name, tool and label of a request.
fn new_run(path: &Path, recorded: &RecordedRequest) -> Run {
    let stem = stem(path);
    let tool = match &recorded.tool {
        Some(tool) => tool.clone(),
        None => stem.split("__").next().unwrap_or_default().to_owned(),
    };
    let name = match &recorded.task {
        Some(task) => format!("{tool}__{task}"),
        None => tool.clone(),
    };
    let label = recorded.label.clone().unwrap_or_else(|| UNLABELLED.to_owned());
    Run { name, tool, label, requests: Vec::new() }
}

/// Scores a sample of chats under each disguise, and adds the results to `counts`. The sample has
/// at most [`MAX_DISGUISED`] chats, evenly spaced.
fn score_disguises(
    chats: &[&RecordedRequest],
    engine: &mut ReplayEngine<'_>,
    counts: &mut [DisguiseCounts],
) {
    let step = chats.len().div_ceil(MAX_DISGUISED).max(1);
    for chat in chats.iter().step_by(step) {
        let Some(body) = parse_chat(&chat.body) else { continue };
        for (disguise, counts) in disguises().zip(counts.iter_mut()) {
            let disguised = RecordedRequest { body: disguise.apply(&body), ..(*chat).clone() };
            let Some(evaluated) = engine.evaluate(&disguised) else { continue };
            counts.requests += 1;
            counts.notice += u64::from(evaluated.decision.band >= Band::Notice);
            counts.suspect += u64::from(evaluated.decision.band >= Band::Suspect);
        }
    }
}

/// Maximum number of requests of a run that are scored under disguises.
const MAX_DISGUISED: usize = 25;

/// Returns the name of a file without its extension.
fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
